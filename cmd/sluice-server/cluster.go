package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"sluice.dev/sluice/internal/control/compile"
	"sluice.dev/sluice/internal/control/server"
	"sluice.dev/sluice/internal/kube/inject"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/notify"
	"sluice.dev/sluice/internal/paths"
	"sluice.dev/sluice/internal/peer"
	"sluice.dev/sluice/internal/telemetry/metrics"
	"sluice.dev/sluice/internal/version"
)

// defaultPushListen is where proxies of Pods are served: Istio's port of that purpose.
const defaultPushListen = ":15012"

// defaultWebhookListen is where the cluster's API server asks about rules and Pods: Istio's
// port of that purpose.
const defaultWebhookListen = ":15017"

// clusterOptions are the flags of a server on Kubernetes. Without the first two nothing of
// Kubernetes is looked for, whatever is in the environment.
type clusterOptions struct {
	inCluster  bool
	kubeconfig string
	namespace  string
	domain     string
	pushListen string

	webhookListen string
	inspectListen string
	sidecar       inject.Options
}

func (o *clusterOptions) define(f *pflag.FlagSet) {
	f.BoolVar(&o.inCluster, "in-cluster", environment("SLUICE_IN_CLUSTER", "") == "1", "take rules, Pods and Services from the cluster whose Pod this is (SLUICE_IN_CLUSTER=1)")
	f.StringVar(&o.kubeconfig, "kubeconfig", environment("SLUICE_KUBECONFIG", ""), "take them from the cluster of this `FILE`'s current context (SLUICE_KUBECONFIG)")
	f.StringVar(&o.namespace, "namespace", environment("SLUICE_NAMESPACE", compile.RootNamespace), "namespace of Sluice in the cluster (SLUICE_NAMESPACE)")
	f.StringVar(&o.domain, "cluster-domain", environment("SLUICE_CLUSTER_DOMAIN", compile.DefaultDomain), "domain of the cluster's names (SLUICE_CLUSTER_DOMAIN)")
	f.StringVar(&o.pushListen, "push-listen", environment("SLUICE_PUSH_LISTEN", defaultPushListen), "`ADDR`ess with a port on which the proxies of Pods are served (SLUICE_PUSH_LISTEN)")
	f.StringVar(&o.webhookListen, "webhook-listen", environment("SLUICE_WEBHOOK_LISTEN", defaultWebhookListen), "`ADDR`ess with a port on which the cluster's API server asks about each rule that is written and each Pod that is to have a sidecar (SLUICE_WEBHOOK_LISTEN)")
	f.StringVar(&o.inspectListen, "inspect-listen", environment("SLUICE_INSPECT_LISTEN", ""), "loopback `ADDR`ess with a port, as in 127.0.0.1:15016, on which whoever may forward ports to this Pod asks for status and flows; for a Pod alone (SLUICE_INSPECT_LISTEN)")
	f.StringVar(&o.sidecar.Image, "sidecar-image", environment("SLUICE_SIDECAR_IMAGE", inject.ImageOf(inject.DefaultHub, version.String())), "`IMAGE` of the sidecars that Pods get when they are created (SLUICE_SIDECAR_IMAGE)")
	f.StringVar(&o.sidecar.PullPolicy, "sidecar-pull-policy", environment("SLUICE_SIDECAR_PULL_POLICY", "IfNotPresent"), "its pull policy: Always, IfNotPresent or Never (SLUICE_SIDECAR_PULL_POLICY)")
	f.StringVar(&o.sidecar.Server, "sidecar-server", environment("SLUICE_SIDECAR_SERVER", inject.DefaultServer), "`HOST:PORT` at which sidecars reach this server (SLUICE_SIDECAR_SERVER)")
}

// refuseClusterFlags refuses what says something of a cluster where none is named.
func refuseClusterFlags(f *pflag.FlagSet) error {
	for _, name := range []string{"namespace", "cluster-domain", "push-listen", "webhook-listen", "inspect-listen", "sidecar-image", "sidecar-pull-policy", "sidecar-server"} {
		if f.Changed(name) {
			return fmt.Errorf("--%s is for a server on Kubernetes: say --in-cluster or --kubeconfig FILE too", name)
		}
	}
	return nil
}

// wanted reports whether the server is one of a cluster.
func (o *clusterOptions) wanted() bool { return o.inCluster || o.kubeconfig != "" }

func (o *clusterOptions) check(all *options) error {
	switch {
	case o.inCluster && o.kubeconfig != "":
		return errors.New("--in-cluster and --kubeconfig exclude each other: name one cluster")
	case all.dataDir != "":
		return errors.New("--data-dir makes no sense with a cluster, which keeps the rules")
	case len(all.etcd.servers) > 0 || all.etcd.caFile+all.etcd.certFile+all.etcd.keyFile != "":
		return errors.New("--etcd-servers and its files make no sense with a cluster, which keeps the rules")
	case all.apiListen != "":
		return errors.New("--api-listen makes no sense with a cluster: kubectl speaks to its own API")
	}
	for _, listen := range []struct{ flag, address, example string }{
		{"--push-listen", o.pushListen, defaultPushListen}, {"--webhook-listen", o.webhookListen, defaultWebhookListen},
	} {
		if host, port, err := net.SplitHostPort(listen.address); err != nil || !isAddress(host) || !isPort(port) {
			return fmt.Errorf("%s %q must be an IP address with a port, or a port of every address as in %s", listen.flag, listen.address, listen.example)
		}
	}
	if o.inspectListen != "" {
		if err := server.CheckInspectListen(o.inspectListen); err != nil {
			return err
		}
		if !o.inCluster {
			return errors.New("--inspect-listen is for a server in a Pod (--in-cluster): elsewhere everybody on the machine could ask")
		}
	}
	if err := o.sidecar.Check(); err != nil {
		return fmt.Errorf("--sidecar-image, --sidecar-pull-policy or --sidecar-server: %w", err)
	}
	if _, err := names.Parse(o.domain); err != nil {
		return fmt.Errorf("--cluster-domain: %w", err)
	}
	if namespace, err := names.Parse(o.namespace); err != nil || !namespace.IsSingleLabel() || namespace.String() != o.namespace {
		return fmt.Errorf("--namespace %q is not a valid name of a namespace", o.namespace)
	}
	if o.namespace != compile.RootNamespace {
		return fmt.Errorf("--namespace %s is not supported yet: the manifests and the rules for all namespaces are in %s", o.namespace, compile.RootNamespace)
	}
	return nil
}

func isAddress(text string) bool { return text == "" || net.ParseIP(text) != nil }

func isPort(text string) bool {
	number, err := strconv.ParseUint(text, 10, 16)
	return err == nil && strconv.FormatUint(number, 10) == text
}

// access returns how the cluster is reached.
func (o *clusterOptions) access() (config *rest.Config, err error) {
	if o.inCluster {
		if config, err = rest.InClusterConfig(); err != nil {
			return nil, fmt.Errorf("--in-cluster: %w", err)
		}
	} else if config, err = clientcmd.BuildConfigFromFlags("", o.kubeconfig); err != nil {
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	config.UserAgent = "sluice-server/" + strings.TrimPrefix(version.String(), "v")
	return config, nil
}

// serveCluster runs the control plane of a cluster until ctx ends.
func serveCluster(ctx context.Context, o options) error {
	if err := o.cluster.check(&o); err != nil {
		return usageError{err}
	}
	log, err := o.logger()
	if err != nil {
		return err
	}
	access, err := o.cluster.access()
	if err != nil {
		return usageError{err}
	}
	name, err := os.Hostname() // a Pod's is its name
	if err != nil {
		return fmt.Errorf("name this server: %w", err)
	}
	systemd := notify.Take()
	started := time.Now()
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	acked := metrics.NewAcknowledged()
	control, err := server.StartCluster(starting, server.ClusterConfig{
		API: access, Namespace: o.cluster.namespace, Name: strings.ToLower(name), Domain: o.cluster.domain,
		PushListen: o.cluster.pushListen, WebhookListen: o.cluster.webhookListen, InspectListen: o.cluster.inspectListen, Sidecar: o.cluster.sidecar,
		RuntimeDir: paths.Runtime(o.runtimeDir), Version: version.String(), Peers: peer.Credentials{}, Acked: acked.Observe, Log: log,
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil // asked to stop while it started
		}
		return fmt.Errorf("start: %w", err)
	}
	endMetrics, err := showMetrics(ctx, &o, control, acked, log)
	if err != nil {
		control.Stop()
		return usageError{err}
	}
	defer endMetrics()
	log.Info("ready", "cluster", access.Host, "proxies", control.PushAddress(), "webhook", control.WebhookAddress(), "took", time.Since(started).Round(time.Millisecond))
	return untilStopped(ctx, systemd, control.Failed(), func() error {
		control.Stop()
		return nil
	}, log)
}
