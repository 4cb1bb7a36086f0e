//go:build linux

package cli

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/internal/demo"
	"sluice.dev/sluice/internal/paths"
	"sluice.dev/sluice/internal/pipes"
	"sluice.dev/sluice/internal/sandbox"
)

func newDemoCommand() *cobra.Command {
	var c demo.Config
	var internet string
	var env bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run Bookinfo behind Sluice, with a small internet",
		Long: `Starts sluice-server, one sluice-proxy, the services of Bookinfo (each in a sandbox of its own)
and a small internet, and says what to do next. It starts nothing that it could not print:
see --print. Ctrl-C ends all of it and leaves nothing behind, the logs of its processes among it.

It uses the default runtime folder, so that sluice create in another terminal finds it, and a data
folder of its own in there, whatever SLUICE_DATA says.

With --env it starts nothing: it prints the lines with which a shell uses the small internet of
the demo that runs, and trusts its CA.`,
		Example: `  sluice demo
  sluice demo --internet real
  sluice demo --print
  eval "$(sluice demo --env)"`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if env {
				return demo.Env(paths.Runtime(""), cmd.OutOrStdout(), cmd.ErrOrStderr())
			}
			switch internet {
			case "small":
			case "real":
				c.Real = true
			default:
				return fmt.Errorf("--internet %q must be small or real", internet)
			}
			if os.Getenv("SLUICE_DATA") != "" {
				fmt.Fprintln(cmd.ErrOrStderr(), "SLUICE_DATA is not used: the demo's data are its own, in its runtime folder, and end with it.")
			}
			pipes.Survive() // ^C in "sluice demo | tee LOG" ends tee first, and what follows is still to be removed
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			c.Out, c.Err = cmd.OutOrStdout(), cmd.ErrOrStderr()
			c.Runtime = paths.Runtime("")
			if err := paths.Make(c.Runtime); err != nil {
				return err
			}
			c.Probe = sandbox.Probe
			return demo.Run(ctx, c)
		},
	}
	f, own := cmd.Flags(), ownFolder()
	f.StringVar(&internet, "internet", "small", "small: one in a namespace; real: this machine's resolver and network")
	f.StringVar(&c.Ingress, "ingress", "127.0.0.1:8080", "HOST:PORT of the page; another free port where it is taken")
	f.StringVar(&c.Samples, "samples", samplesBeside(own), "folder of the samples, for the commands that are printed")
	f.StringVar(&c.Binaries, "bin", own, "folder of the binaries")
	f.BoolVar(&c.Print, "print", false, "print the commands that it would start, and start nothing")
	f.BoolVar(&env, "env", false, "print what a shell sets to use the small internet of the running demo, for eval")
	for _, other := range []string{"internet", "ingress", "samples", "bin", "print"} {
		cmd.MarkFlagsMutuallyExclusive("env", other)
	}
	return cmd
}

// ownFolder is where this binary is, relative where that is shorter to type.
func ownFolder() string {
	exe, err := os.Executable()
	if err != nil {
		return "bin"
	}
	dir := filepath.Dir(exe)
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, dir); err == nil && filepath.IsLocal(rel) {
			return rel
		}
	}
	return dir
}

// samplesBeside is the checkout's folder of samples, where the binaries are in its
// bin.
func samplesBeside(binaries string) string {
	if filepath.Base(binaries) != "bin" {
		return "samples"
	}
	return filepath.Join(filepath.Dir(binaries), "samples")
}
