// Command simnet runs a small internet until a signal ends it (SIGINT, SIGTERM,
// SIGHUP). The proxy reaches it with --egress-sockets and trusts it with
// --upstream-ca.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/test/simnet"
)

func main() {
	simnet.Init()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "simnet:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var c simnet.Config
	cmd := &cobra.Command{
		Use:           "simnet --sockets PATH --ca FILE --control PATH",
		Short:         "Run a small internet in a network namespace",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), c) },
	}
	flags := cmd.Flags()
	flags.StringVar(&c.Sockets, "sockets", "", "`PATH` of the socket that serves sockets of the internet")
	flags.StringVar(&c.CA, "ca", "", "`FILE` to write the CA's certificate to")
	flags.StringVar(&c.Control, "control", "", "`PATH` of the socket that tells what was seen and takes lies")
	for _, name := range []string{"sockets", "ca", "control"} {
		cmd.MarkFlagRequired(name)
	}
	return cmd
}

func run(ctx context.Context, c simnet.Config) error {
	n, err := simnet.New(ctx, c)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "simnet: ready; DNS at %s\n", simnet.Resolver)
	select {
	case <-ctx.Done():
		return n.Close()
	case <-n.Exited():
		if err := n.Close(); err != nil {
			return err
		}
		return errors.New("the small internet ended by itself")
	}
}
