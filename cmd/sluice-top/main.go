// Command sluice-top is `sluice top`: workloads, destinations and denials of a server, live
// in a terminal. `sluice` goes on as it, so that no other command carries a terminal library
// to its start. It shows what it is told, and changes nothing.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sluice.dev/sluice/internal/rest"
	"sluice.dev/sluice/internal/top"
	"sluice.dev/sluice/internal/version"
)

func main() {
	if err := newCommand().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	var server, workload string
	cmd := &cobra.Command{
		Use:           "sluice-top",
		Short:         "What sluice top goes on as",
		Long:          "Shows workloads, destinations and denials of a server as they happen. sluice top calls it, with its own flags.",
		Version:       version.String(),
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), server, workload) },
	}
	cmd.Flags().StringVar(&server, "server", os.Getenv("SLUICE_SERVER"), "`ADDRESS` of the server, as sluice --server")
	cmd.Flags().StringVar(&workload, "from", "", "only what this workload does, or all workloads of a service")
	return cmd
}

func run(ctx context.Context, server, workload string) error {
	if !term.IsTerminal(int(os.Stdin.Fd())) || !term.IsTerminal(int(os.Stdout.Fd())) {
		return errors.New("sluice top needs a terminal: sluice flows --follow and sluice status print lines")
	}
	client, err := rest.New(rest.Config{Server: server})
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch := top.NewWatch(client, workload)
	if err := watch.Ask(ctx); err != nil {
		return err // before the screen is taken: it stays readable
	}
	done := make(chan struct{})
	go func() { defer close(done); watch.Run(ctx) }()
	model := top.NewModel(watch.State(), &top.Commands{Server: server}, os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
	_, err = tea.NewProgram(model, tea.WithContext(ctx)).Run()
	cancel()
	<-done
	return err
}
