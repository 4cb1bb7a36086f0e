// Command sluice-proxy is the data plane: one process that serves the sandboxes
// of a machine, and an ingress where asked. It links no Kubernetes.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/internal/pipes"
	"sluice.dev/sluice/internal/run"
	"sluice.dev/sluice/internal/telemetry/accesslog"
	"sluice.dev/sluice/internal/telemetry/endpoint"
	"sluice.dev/sluice/internal/telemetry/metrics"
	"sluice.dev/sluice/internal/version"
	"sluice.dev/sluice/internal/wire"
)

// options are the flags; each has a variable of the same name.
type options struct {
	name          string
	runtimeDir    string
	dataDir       string
	egressSockets string
	resolvers     []string
	upstreamCA    string
	certificates  string
	ingress       string
	ingressRoutes []string
	ingressTLS    string
	ingressCerts  string
	tellAll       bool
	limits        wire.Limits
	sidecar       sidecarOptions
	metrics       string
	maxSeries     int
	otlp          string
	access        accessOptions
	health        string
	logLevel      string
	logFormat     string
}

func main() {
	pipes.Survive() // as behind | tee: it ends in order, and leaves nothing
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "sluice-proxy",
		Short: "Carry the traffic of this machine's sandboxes, as sluice-server says",
		Long: `sluice-proxy is the data plane. It takes the sandboxes that "sluice run --service" makes,
asks the server of this machine for their rules, and carries their traffic: denied by default,
decided by name, dialled by its own resolution.

It goes on with its last rules where it loses the server, and catches up.`,
		Example: `  sluice-proxy
  sluice-proxy --ingress 127.0.0.1:8080 --ingress-tls 127.0.0.1:8443 --ingress-certs /etc/sluice/ingress-certs
  sluice-proxy --resolver 192.0.2.53 --upstream-ca /etc/ssl/company.pem`,
		Args:          cobra.NoArgs,
		Version:       version.String(),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(cmd.Flags().Changed); err != nil {
				return err
			}
			if o.sidecar.on {
				return serveSidecar(cmd.Context(), o)
			}
			return serve(cmd.Context(), o)
		},
	}
	c.AddCommand(newRedirectCommand())
	c.CompletionOptions.DisableDefaultCmd = true
	f := c.Flags()
	f.Bool("version", false, "version of sluice-proxy") // without -v, which means more words
	f.StringVar(&o.name, "name", environment("SLUICE_PROXY_NAME", environment("POD_NAME", hostname())), "the proxy's name in status (SLUICE_PROXY_NAME, POD_NAME)")
	f.StringVar(&o.runtimeDir, "runtime-dir", "", "folder of the sockets (SLUICE_RUNTIME; /run/sluice for root)")
	f.StringVar(&o.dataDir, "data-dir", "", "folder of what is kept over restarts (SLUICE_DATA; /var/lib/sluice for root)")
	f.StringVar(&o.egressSockets, "egress-sockets", environment("SLUICE_EGRESS_SOCKETS", ""), "unix socket of a SocketFactory: the way out is through its namespace (SLUICE_EGRESS_SOCKETS)")
	f.StringArrayVar(&o.resolvers, "resolver", separated(os.Getenv("SLUICE_RESOLVER")), "DNS server to ask, ADDRESS[:PORT]; may be repeated (SLUICE_RESOLVER, separated by commas; default: the machine's)")
	f.StringVar(&o.upstreamCA, "upstream-ca", environment("SLUICE_UPSTREAM_CA", ""), "file of PEM certificates that upstreams may chain to, beside the system's (SLUICE_UPSTREAM_CA)")
	f.StringVar(&o.certificates, "client-certificates", environment("SLUICE_CLIENT_CERTIFICATES", ""), "folder of client certificates and their keys, NAMESPACE/FILE, that rules name (SLUICE_CLIENT_CERTIFICATES)")
	f.StringVar(&o.ingress, "ingress", environment("SLUICE_INGRESS", ""), "HOST:PORT to take HTTP on from outside the mesh, as Ingresses and IngressRules say (SLUICE_INGRESS)")
	f.StringArrayVar(&o.ingressRoutes, "ingress-route", nil, "PATH[,PATH...]=SERVICE:PORT of the ingress, before all rules; a path that ends in .* is a prefix; may be repeated")
	f.StringVar(&o.ingressTLS, "ingress-tls", environment("SLUICE_INGRESS_TLS", ""), "HOST:PORT to take HTTPS on from outside the mesh, with the certificates of --ingress-certs (SLUICE_INGRESS_TLS)")
	f.StringVar(&o.ingressCerts, "ingress-certs", environment("SLUICE_INGRESS_CERTS", ""), "folder of the ingress' certificates, NAMESPACE/SECRET/tls.crt and tls.key, that Ingresses and IngressRules name (SLUICE_INGRESS_CERTS)")
	f.BoolVar(&o.tellAll, "tell-all", environment("SLUICE_TELL_ALL", "") == "true", "answer a denied request with the rule that would allow it, not with the reason and id alone (SLUICE_TELL_ALL)")
	f.IntVar(&o.limits.Connections, run.MaxConnectionsFlag, 0, "live connections of one workload at most; a lower one of the MeshConfig counts (default 16384, and the workload's part of what this process may open)")
	f.IntVar(&o.limits.UpstreamConnections, run.MaxUpstreamConnectionsFlag, 0, "connections open on behalf of one workload at most; a lower one of the MeshConfig counts (default 16384, and the workload's part of what this process may open)")
	f.DurationVar(&o.limits.QueueTimeout, run.QueueTimeoutFlag, 0, "how long a connection or request waits at one of these bounds before it is refused (default 30s)")
	f.BoolVar(&o.sidecar.on, "sidecar", false, "serve the one workload in the network namespace of this process, whose traffic sluice-proxy redirect sends here: a Pod's sidecar")
	f.StringVar(&o.sidecar.server, "server", "", "HOST:PORT of the server of a cluster, or push.sock of one on this machine, for --sidecar")
	f.StringVar(&o.sidecar.identity, "identity-dir", "/var/run/sluice/identity", "folder with what the cluster says of the Pod, for --sidecar")
	f.StringArrayVar(&o.sidecar.listen, "listen", nil, "port on which the application listens, for --sidecar; may be repeated")
	f.StringArrayVar(&o.sidecar.lowered, "lowered", nil, "who of the Pod may get around this sidecar, for --sidecar: sluice status then shows level lowered; may be repeated")
	f.StringArrayVar(&o.sidecar.bypassed, "bypassed", nil, "what of the Pod's traffic does not come here, for --sidecar: sluice status then shows level bypassed; may be repeated")
	f.StringVar(&o.metrics, "metrics", environment("SLUICE_METRICS", ""), "HOST:PORT on which Prometheus finds /metrics, as in 127.0.0.1:15090 (SLUICE_METRICS)")
	f.IntVar(&o.maxSeries, "max-series", 0, "series of metrics at most, in place of what the MeshConfig says; what finds none is counted as \"other\" (default "+strconv.Itoa(metrics.MaxSeries)+")")
	f.StringVar(&o.otlp, "otlp", environment("SLUICE_OTLP", ""), "`URL` of an OpenTelemetry collector that metrics, and spans of sampled traces, are sent to by OTLP over HTTP, as in http://127.0.0.1:4318 (SLUICE_OTLP)")
	f.StringVar(&o.access.to, "access-log", environment("SLUICE_ACCESS_LOG", ""), "`FILE` that gets a line for each request and connection; - is standard output, otlp the collector of --otlp (SLUICE_ACCESS_LOG)")
	f.StringVar(&o.access.format, "access-log-format", environment("SLUICE_ACCESS_LOG_FORMAT", accesslog.JSON), "json, or a template with attributes as in '{source.name} {request.host} {response.code}' (SLUICE_ACCESS_LOG_FORMAT)")
	f.Float64Var(&o.access.sample, "access-log-sample", 100, "`PERCENT` of the lines of what was allowed that are written; denials and failures always are")
	f.StringVar(&o.health, "health", environment("SLUICE_HEALTH", ""), "HOST:PORT on which "+endpoint.HealthPath+" says whether the proxy is ready, as in 127.0.0.1:15021 (SLUICE_HEALTH)")
	f.StringVar(&o.logLevel, "log-level", environment("SLUICE_LOG_LEVEL", "info"), "debug, info, warn or error (SLUICE_LOG_LEVEL)")
	f.StringVar(&o.logFormat, "log-format", environment("SLUICE_LOG_FORMAT", "text"), "text or json (SLUICE_LOG_FORMAT)")
	return c
}

func environment(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// separated is the parts of a text between commas; spaces do not count.
func separated(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

func hostname() string {
	if h, err := os.Hostname(); err == nil {
		return h
	}
	return "proxy"
}

// logger writes to standard error.
func (o *options) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return nil, fmt.Errorf("--log-level %q must be debug, info, warn or error", o.logLevel)
	}
	handler := &slog.HandlerOptions{Level: level}
	switch o.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, handler)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, handler)), nil
	}
	return nil, fmt.Errorf("--log-format %q must be text or json", o.logFormat)
}

// isIngress reports whether the proxy takes requests from outside the mesh.
func (o *options) isIngress() bool { return o.ingress != "" || o.ingressTLS != "" }

// validate checks what flags say together; changed reports whether one was given.
func (o *options) validate(changed func(flag string) bool) error {
	switch {
	case !o.isIngress() && len(o.ingressRoutes) > 0:
		return errors.New("--ingress-route needs --ingress or --ingress-tls")
	case o.ingressTLS != "" && o.ingressCerts == "":
		return errors.New("--ingress-tls needs --ingress-certs, the folder of the certificates that it shows")
	case o.ingressTLS == "" && o.ingressCerts != "":
		return errors.New("--ingress-certs needs --ingress-tls")
	case changed("max-series") && o.metrics == "" && o.otlp == "":
		return errors.New("--max-series needs --metrics or --otlp")
	case changed("max-series") && o.maxSeries < metrics.MinSeries:
		return fmt.Errorf("--max-series %d is less than %d", o.maxSeries, metrics.MinSeries)
	}
	if err := o.access.validate(changed, o.otlp); err != nil {
		return err
	}
	switch s := &o.sidecar; {
	case s.on && s.server == "":
		return errors.New("--sidecar needs --server")
	case s.on && (o.isIngress() || o.egressSockets != ""):
		return errors.New("--sidecar excludes --ingress, --ingress-tls and --egress-sockets: it serves its Pod alone")
	case s.on && o.runtimeDir != "":
		return errors.New("--sidecar excludes --runtime-dir: it has no sockets")
	case s.on && ownPort(o.metrics):
		return fmt.Errorf("--metrics %s: the sidecar itself listens on that port; take another, as in 127.0.0.1:15090", o.metrics)
	case s.on && ownPort(o.health):
		return fmt.Errorf("--health %s: the sidecar itself listens on that port; take another, as in :15021", o.health)
	case !s.on && (len(s.listen) > 0 || len(s.bypassed)+len(s.lowered) > 0 || s.server != "" || changed("identity-dir")):
		return errors.New("--server, --identity-dir, --listen, --bypassed and --lowered need --sidecar")
	}
	return run.CheckLimits(o.limits)
}
