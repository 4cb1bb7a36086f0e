// Command sluice-server is the control plane of one machine: it keeps the rules,
// knows the workloads that run, and brings each proxy its rules. It carries no
// traffic.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/internal/control/server"
	"sluice.dev/sluice/internal/pipes"
	"sluice.dev/sluice/internal/version"
)

// Exit statuses.
const (
	exitFailed  = 1 // it did not start, or a part of it ended
	exitUsage   = 2 // a flag or argument is wrong
	exitRunning = 3 // another server uses one of the folders
)

// options are the flags; each has a variable.
type options struct {
	runtimeDir string
	dataDir    string
	apiListen  string
	cluster    clusterOptions
	etcd       etcdOptions
	metrics    string
	otlp       string
	logLevel   string
	logFormat  string
}

// usageError is what a user can mend on the command line.
type usageError struct{ error }

func main() {
	pipes.Survive() // as behind | tee: it ends in order, and leaves nothing
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := newCommand().ExecuteContext(ctx)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "Error:", err)
	os.Exit(exitStatus(err))
}

func exitStatus(err error) int {
	var running *server.RunningError
	var usage usageError
	switch {
	case errors.As(err, &running):
		return exitRunning
	case errors.As(err, &usage):
		return exitUsage
	}
	return exitFailed
}

func newCommand() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "sluice-server",
		Short: "Keep the rules of this machine and bring them to its proxies",
		Long: `sluice-server is the control plane. It keeps the rules in a store of its own, compiles them for
each workload and brings them to the proxies; "sluice create", "get", "status" and "why" speak to it.

On one machine it listens on two unix sockets in the runtime folder, api.sock and push.sock, for processes of its
own user alone. A rule is on disk before the command that wrote it succeeds.

On Kubernetes, with --in-cluster or --kubeconfig FILE, the cluster keeps the rules and says which
Pods and Services there are. The proxies connect by TLS to --push-listen, and each shows the token
of its Pod. Several servers may run; each keeps nothing.

With --etcd-servers the rules are in an etcd that runs elsewhere, and several servers may share them;
the data folder keeps the rest.

On one machine it opens no port, unless --api-listen says one: there kubectl is served over TLS, with a client
certificate of a role (sluice kubeconfig). Whatever address it is, nothing is served without.

Exit status: 0 after SIGINT or SIGTERM, 1 for a failure, 2 for a wrong flag, 3 where another
server uses one of the folders.`,
		Example: `  sluice-server
  sluice-server --api-listen 127.0.0.1:15010
  sluice-server --etcd-servers https://192.0.2.1:2379,https://192.0.2.2:2379,https://192.0.2.3:2379 --etcd-cafile ca.pem
  sluice-server --in-cluster --push-listen :15012
  sluice-server --runtime-dir /tmp/mesh --data-dir ~/mesh --log-level debug
  curl --unix-socket /run/sluice/api.sock http://sluice/sluice/status`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("sluice-server takes no arguments, not even %q; see sluice-server --help", args[0])}
			}
			return nil
		},
		Version:       version.String(),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.cluster.wanted() {
				return serveCluster(cmd.Context(), o)
			}
			if err := refuseClusterFlags(cmd.Flags()); err != nil {
				return usageError{err}
			}
			return serve(cmd.Context(), o)
		},
	}
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	f := c.Flags()
	f.Bool("version", false, "version of sluice-server") // without -v, which means more words
	f.StringVar(&o.runtimeDir, "runtime-dir", "", "folder of the sockets (SLUICE_RUNTIME; /run/sluice for root, else $XDG_RUNTIME_DIR/sluice)")
	f.StringVar(&o.dataDir, "data-dir", "", "folder of the rules (SLUICE_DATA; /var/lib/sluice for root, else ~/.local/state/sluice)")
	f.StringVar(&o.apiListen, "api-listen", environment("SLUICE_API_LISTEN", ""), "`ADDR`ess with a port on which the API is served over TLS too, as in 127.0.0.1:15010 (SLUICE_API_LISTEN)")
	o.cluster.define(f)
	o.etcd.define(f)
	f.StringVar(&o.metrics, "metrics", environment("SLUICE_SERVER_METRICS", ""), "`HOST:PORT` on which Prometheus finds /metrics, as in 127.0.0.1:15014 (SLUICE_SERVER_METRICS)")
	f.StringVar(&o.otlp, "otlp", environment("SLUICE_OTLP", ""), "`URL` of an OpenTelemetry collector that metrics are sent to by OTLP over HTTP, as in http://127.0.0.1:4318 (SLUICE_OTLP)")
	f.StringVar(&o.logLevel, "log-level", environment("SLUICE_LOG_LEVEL", "info"), "debug, info, warn or error (SLUICE_LOG_LEVEL)")
	f.StringVar(&o.logFormat, "log-format", environment("SLUICE_LOG_FORMAT", "text"), "text or json (SLUICE_LOG_FORMAT)")
	return c
}

func environment(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

// logger writes to standard error.
func (o *options) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return nil, usageError{fmt.Errorf("--log-level %q must be debug, info, warn or error", o.logLevel)}
	}
	handler := &slog.HandlerOptions{Level: level}
	switch o.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, handler)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, handler)), nil
	}
	return nil, usageError{fmt.Errorf("--log-format %q must be text or json", o.logFormat)}
}
