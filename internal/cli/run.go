//go:build linux

package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/paths"
	"sluice.dev/sluice/internal/proxy/resolve"
	"sluice.dev/sluice/internal/rulefile"
	"sluice.dev/sluice/internal/run"
	"sluice.dev/sluice/internal/sandbox"
	"sluice.dev/sluice/internal/wire"
)

// runOptions are the flags of `sluice run`.
type runOptions struct {
	rules         ruleFlags
	service       string
	version       string
	namespace     string
	account       string
	labels        []string
	listen        []string
	ready         []string
	server        string
	egressSockets string
	resolvers     []string
	watch         bool
	publish       []string
	reachHost     []string
	upstreamCA    string
	certificates  string
	via           string
	viaLogin      string
	runAs         string
	noFileRights  bool
	pivotRoot     bool
	unix          []string
	fds           []string
	unsupervised  bool
	files         fileFlags
	requireLevel  string
	quiet         bool
	verbose       bool
	report        string
	suggest       string
	failOnDenied  bool
	ask           bool
	limits        wire.Limits
	pids          string
	memory        string
	cpus          string
}

func newRunCommand() *cobra.Command {
	var o runOptions
	c := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARG...]",
		Short: "Run a command that can only go where rules let it",
		Long: `Runs a command in a sandbox whose only way out is a Sluice proxy: denied by default, opened by
--allow, --preset and --rules, or, with --service, by the rules of this machine's sluice-server.

It needs no root. After the command standard error says what was denied, what was not reached,
and what passed by audit alone; -v says it as it happens, and --report writes every connection and
request to a file.

The exit status is the command's own. Otherwise 125 says that there is no sandbox or no proxy, or
that the report could not be written, 126 and 127 that the command could not be started, and, with
--fail-on-denied, 3 that the command ended with 0 and something was denied.`,
		Example: `  sluice run --allow '*.googleapis.com:443' -- curl https://www.googleapis.com/
  sluice run --preset pypi -- pip install six
  sluice run --rules rules.yaml -- make
  sluice run --audit -- make test
  sluice run --fail-on-denied --report report.jsonl --rules rules.yaml -- make test
  sluice run --service details --version v2 --listen 9080 -- bin/bookinfo details 9080`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("no command: write it behind --, as in sluice run -- curl https://example.com/")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := o.config(cmd, args)
			if err != nil {
				return &ExitError{Code: run.ExitFailed, Err: err}
			}
			code, err := run.Run(cmd.Context(), config)
			if err != nil || code != 0 {
				return &ExitError{Code: code, Err: err}
			}
			return nil
		},
	}
	f := c.Flags()
	f.SetInterspersed(false)
	o.rules.add(f)
	f.StringVar(&o.service, "service", "", "join the mesh of this machine's server as an endpoint of this service")
	f.StringVar(&o.version, "version", "", "version of the service (label version)")
	f.StringVarP(&o.namespace, "namespace", "n", "default", "namespace of the workload")
	f.StringVar(&o.account, "service-account", "", "service account of the workload")
	f.StringArrayVar(&o.labels, "label", nil, "K=V, a label of the workload; may be repeated")
	f.StringSliceVar(&o.listen, "listen", nil, "PORT[/PROTOCOL] on which the command serves; PROTOCOL is http, http2, grpc or tcp (default: what a client says first decides); may be repeated")
	f.BoolVar(&o.watch, "watch", false, "follow the files of --rules while the command runs; their folders are hidden from it")
	f.StringArrayVar(&o.publish, "publish", nil, "`[ADDR:]PORT[:PORT]`: open a port of the command outside, on 127.0.0.1 without ADDR; may be repeated")
	f.StringArrayVar(&o.reachHost, "reach-host", nil, "`PORT` of this machine's loopback that the command may reach, as host.sluice.internal; may be repeated")
	f.StringArrayVar(&o.ready, "ready", nil, "`http:PATH:PORT`: a port of --listen is ready only while GET PATH is answered with 200 to 399; may be repeated (default: while the command listens)")
	f.StringVar(&o.server, "server", "", "join the mesh of this server of this machine: its runtime folder, or its socket (with --service: the default one)")
	f.StringVar(&o.egressSockets, "egress-sockets", os.Getenv("SLUICE_EGRESS_SOCKETS"), "unix socket of a SocketFactory: the way out is through its namespace (SLUICE_EGRESS_SOCKETS)")
	f.StringArrayVar(&o.resolvers, "resolver", commaSeparated(os.Getenv("SLUICE_RESOLVER")), "DNS server to ask, ADDRESS[:PORT]; may be repeated (SLUICE_RESOLVER, separated by commas; default: the machine's)")
	f.StringVar(&o.upstreamCA, "upstream-ca", os.Getenv("SLUICE_UPSTREAM_CA"), "file of PEM certificates that upstreams may chain to, beside the system's (SLUICE_UPSTREAM_CA)")
	f.StringVar(&o.certificates, "client-certificates", os.Getenv("SLUICE_CLIENT_CERTIFICATES"), "folder of client certificates and their keys, NAMESPACE/FILE, that rules name; it is hidden from the command (SLUICE_CLIENT_CERTIFICATES)")
	f.StringVar(&o.via, viaFlag, "", "`URL` of an HTTP proxy (http:// or https://) that all leaves through, by CONNECT; written --via-proxy=URL; without a value, or with SLUICE_VIA_PROXY set, the environment's")
	f.Lookup(viaFlag).NoOptDefVal = viaFromEnvironment
	f.StringVar(&o.viaLogin, "via-proxy-credentials", "", "`FILE` with user:password for the proxy; it is hidden from the command")
	f.StringVar(&o.runAs, "run-as", "", "`USER[:GROUP]` to run the command as, names or numbers from 1 to 4294967294; requires root")
	f.BoolVar(&o.noFileRights, "no-file-capabilities", false, "for a command that runs as root: it has no rights over files of other users and cannot become one, and keeps the machine's devices")
	f.BoolVar(&o.pivotRoot, "allow-pivot-root", false, "for a command that makes sandboxes of its own (bwrap, podman, builds of Nix): it may take another root folder, and then move what is around hidden files, which is a lower level")
	f.StringArrayVar(&o.unix, "unix", nil, "`PATH` of a unix socket outside that the command may connect to; may be repeated")
	f.StringSliceVar(&o.fds, "fd", nil, "`N`, a pipe that is open here and that the command finds open too; all else is closed but the standard streams and what MAKEFLAGS names; may be repeated")
	f.BoolVar(&o.unsupervised, "unsupervised", false, "for a command that brings a seccomp filter that notifies: unix sockets of the outside are hidden once, by name, which is a lower level")
	o.files.add(f)
	f.StringVar(&o.requireLevel, "require-level", "", "`LEVEL` that must hold in every part or the command does not start: sandbox")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "say nothing after the command")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "say the level of enforcement, and each connection and request as it ends")
	f.BoolVar(&o.rules.Audit, "audit", false, "let pass what no rule allows, and say after the command what that was; all other denials stay")
	f.BoolVar(&o.ask, "ask", false, "ask at the terminal about what no rule allows: once (for this run), always (added to the last file of --rules too) or no; the command gets a terminal of its own")
	f.StringVar(&o.report, "report", "", "`FILE` to write every connection and request to, one JSON object a line; it is replaced")
	f.StringVar(&o.suggest, "suggest", "", "`FILE` to write the least rules to that let through what the command did and tried; it is replaced")
	f.BoolVar(&o.failOnDenied, "fail-on-denied", false, "end with status 3 where the command ends with 0 and something was denied")
	f.IntVar(&o.limits.Connections, run.MaxConnectionsFlag, 0, "live connections of the command at most (default 16384, and what this process may open)")
	f.IntVar(&o.limits.UpstreamConnections, run.MaxUpstreamConnectionsFlag, 0, "connections open on behalf of the command at most (default 16384, and what this process may open)")
	f.DurationVar(&o.limits.QueueTimeout, run.QueueTimeoutFlag, 0, "how long a connection or request waits at one of these bounds before it is refused (default 30s)")
	f.StringVar(&o.pids, "pids", "", "`N` processes and threads inside at most")
	f.StringVar(&o.memory, "memory", "", "`SIZE` of memory that everything inside uses together at most, without swap: bytes, or as 512M or 1.5G (powers of 1024)")
	f.StringVar(&o.cpus, "cpus", "", "`N` processors that everything inside uses together at most, as 2 or 0.5")
	_ = c.MarkFlagFilename("report")
	_ = c.MarkFlagFilename("via-proxy-credentials")
	_ = c.MarkFlagFilename("suggest", "yaml")
	complete(c, "service", completeServices())
	complete(c, flagNamespace, completeNamespaces())
	completePresets(c)
	return c
}

// config reads the flags into what run takes.
func (o *runOptions) config(cmd *cobra.Command, args []string) (run.Config, error) {
	c := run.Config{
		Command: args, Rules: o.rules.from(cmd), Watch: o.watch,
		EgressSockets: o.egressSockets, UpstreamCA: o.upstreamCA, Certificates: o.certificates, Quiet: o.quiet, Verbose: o.verbose,
		Report: o.report, Suggest: o.suggest, FailOnDenied: o.failOnDenied, Ask: o.ask, Unsupervised: o.unsupervised, NoFileCapabilities: o.noFileRights, PivotRoot: o.pivotRoot, RequireLevel: o.requireLevel, Limits: o.limits,
	}
	if err := run.CheckLimits(o.limits); err != nil {
		return c, err
	}
	if o.verbose {
		c.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	if flags := cmd.Flags(); flags.Changed("require-level") && o.requireLevel != sandbox.LevelSandbox {
		return c, fmt.Errorf("--require-level %q is not a level of sluice run: it takes %s", o.requireLevel, sandbox.LevelSandbox)
	}
	if o.version != "" && o.service == "" {
		return c, errors.New("--version is that of a service: name it with --service")
	}
	var err error
	if c.Resolvers, err = resolve.ParseServers(o.resolvers); err != nil {
		return c, fmt.Errorf("--resolver or SLUICE_RESOLVER: %w", err)
	}
	if cmd.Flags().Changed("run-as") { // an empty one is a variable that is not set, and not root
		if c.RunAs, err = identity(o.runAs, accounts{}); err != nil {
			return c, err
		}
	}
	if err := o.resources(cmd.Flags(), &c.Resources); err != nil {
		return c, err
	}
	if c.Unix, err = socketFiles(o.unix); err != nil {
		return c, err
	}
	if c.Pipes, err = descriptors(o.fds); err != nil {
		return c, err
	}
	if c.Files, err = o.files.wishes(); err != nil {
		return c, err
	}
	c.Homes = homes(c.RunAs)
	w := &c.Workload
	w.Service, w.Version, w.Namespace, w.Account = o.service, o.version, o.namespace, o.account
	if w.Labels, err = parseLabels(o.labels); err != nil {
		return c, err
	}
	if w.Ports, w.Protocols, err = parseListen(o.listen); err != nil {
		return c, err
	}
	if c.Rules.Host, err = ports("--reach-host", o.reachHost); err != nil {
		return c, err
	}
	for _, text := range o.publish {
		p, err := run.ParsePublish(text)
		if err != nil {
			return c, err
		}
		c.Publish = append(c.Publish, p)
	}
	if c.Ready, err = parseReady(o.ready, w.Ports); err != nil {
		return c, err
	}
	runtime, err := runtimeOf(o.server)
	if err != nil {
		return c, err
	}
	data, err := paths.Data("")
	if err != nil {
		return c, err
	}
	announced, err := paths.Announced(runtime)
	if err != nil {
		return c, err
	}
	c.Mask = append([]string{runtime, data}, announced...)
	if o.watch && (len(o.rules.Files) == 0 || slices.Contains(o.rules.Files, rulefile.StandardInput)) {
		return c, errors.New("--watch follows files of --rules; name one, and not standard input")
	}
	if o.ask && c.Rules.Audit {
		return c, errors.New("--ask and --audit exclude one another: what no rule allows is asked about, or passes")
	}
	if o.service == "" && o.server == "" {
		if len(o.listen) > 0 {
			return c, errors.New("--listen is for a workload of the mesh: name it with --service; --publish opens a port of a command that runs alone")
		}
		if c.Via, err = o.viaProxy(cmd, args, os.Getenv); err != nil {
			return c, err
		}
		if len(c.Rules.Host) > 0 && o.egressSockets != "" {
			return c, errors.New("--reach-host is for this machine's own loopback, and with --egress-sockets (SLUICE_EGRESS_SOCKETS) the way out begins in another namespace")
		}
		return c, nil
	}
	if len(c.Publish) > 0 {
		return c, errors.New("--publish is for a command that runs alone; with --service or --server name the port with --listen: the mesh calls it by the service's name, and an ingress opens it outside")
	}
	if c.Rules.Any() || len(c.Rules.Private) > 0 {
		return c, errors.New("--rules, --allow, --preset, --private and --reach-host are for a command that runs alone; with --service or --server the rules are the server's: use sluice create")
	}
	if o.ask {
		return c, errors.New("--ask is for a command that runs alone; with --service or --server the rules are the server's: use sluice create")
	}
	if c.Rules.Audit {
		return c, errors.New("--audit is for a command that runs alone; with --service or --server it is the mesh that decides: set outboundDefault: Audit in its MeshConfig, for all or for one namespace")
	}
	// A variable may be there for another command.
	flags := cmd.Flags()
	if flags.Changed(run.MaxConnectionsFlag) || flags.Changed(run.MaxUpstreamConnectionsFlag) || flags.Changed(run.QueueTimeoutFlag) {
		return c, errors.New("--max-connections, --max-upstream-connections and --queue-timeout are for a command that runs alone; with --service or --server they are sluice-proxy's, and limits of the MeshConfig")
	}
	if flags.Changed(viaFlag) || flags.Changed("via-proxy-credentials") {
		return c, errors.New("--via-proxy is for a command that runs alone; with --service or --server it is sluice-proxy that connects, and there it is not supported yet")
	}
	if flags.Changed("egress-sockets") || flags.Changed("upstream-ca") || flags.Changed("client-certificates") || flags.Changed("resolver") {
		return c, errors.New("--egress-sockets, --upstream-ca, --client-certificates and --resolver are for a command that runs alone; with --service or --server they are sluice-proxy's")
	}
	c.Attach, err = paths.Socket(runtime, paths.AttachSocket)
	return c, err
}

// resources reads the limits of what the command uses. An empty one is an error, and
// not no limit: it is a variable that is not set.
func (o *runOptions) resources(flags *pflag.FlagSet, limits *sandbox.Resources) (err error) {
	for _, f := range []struct {
		flag, text string
		parse      func(text string) error
	}{
		{"pids", o.pids, func(text string) error { limits.Pids, err = sandbox.ParsePids(text); return err }},
		{"memory", o.memory, func(text string) error { limits.Memory, err = sandbox.ParseMemory(text); return err }},
		{"cpus", o.cpus, func(text string) error { limits.CPUs, err = sandbox.ParseCPUs(text); return err }},
	} {
		if !flags.Changed(f.flag) {
			continue
		}
		if err := f.parse(f.text); err != nil {
			return fmt.Errorf("--%s %w", f.flag, err)
		}
	}
	return nil
}

// descriptors reads the numbers of --fd.
func descriptors(texts []string) (list []int, err error) {
	for _, text := range texts {
		number, err := strconv.Atoi(text)
		if err != nil || number < 0 {
			return nil, fmt.Errorf("--fd %q must be the number of an open pipe, from 3 to %d", text, sandbox.MaxPipeNumber)
		}
		list = append(list, number)
	}
	return list, nil
}

// ports reads the ports of a flag that may be repeated.
func ports(flag string, texts []string) (list []uint16, err error) {
	for _, text := range texts {
		port, ok := names.ParsePort(text)
		if !ok {
			return nil, fmt.Errorf("%s %q must be a port from 1 to 65535", flag, text)
		}
		list = append(list, port)
	}
	return list, nil
}

// commaSeparated is nil for an empty text; spaces around a comma do not count.
func commaSeparated(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}
