package node

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"sluice.dev/sluice/test/kube/cluster"
)

// What a node is called and where its parts are.
const (
	Name    = "node1"
	Address = "192.168.77.1" // of the node, of the API server and of CoreDNS
	podNet  = "10.244.0.0/24"
)

const (
	startTimeout = 5 * time.Minute // on a busy machine; 5 s as a rule
	pollEvery    = 50 * time.Millisecond
)

// Config says what a node is made of.
type Config struct {
	// CoreDNS is the path of the CoreDNS of this module.
	CoreDNS string
	// Hosts are the names outside of the cluster that CoreDNS knows.
	Hosts map[string]string
	// Say is called with each step.
	Say func(format string, arguments ...any)
}

// Node is a running cluster of one node.
type Node struct {
	*cluster.Cluster
	config    Config
	dir       string
	socket    string // of containerd
	processes map[string]*cluster.Process
}

// Start starts a cluster and returns when its node is ready. It is called inside Main.
func Start(ctx context.Context, config Config) (n *Node, err error) {
	dir := os.Getenv(insideVariable)
	if dir == "" {
		return nil, errors.New("a node is started inside of node.Main alone")
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	n = &Node{config: config, dir: dir, socket: "/run/node/containerd.sock", processes: make(map[string]*cluster.Process)}
	defer func() {
		if err != nil {
			n.Stop()
		}
	}()
	if err := n.network(ctx); err != nil {
		return nil, err
	}
	if err := n.containerd(ctx); err != nil {
		return nil, err
	}
	// How the API server proves itself to the kubelet is known before the API server is.
	kubelets, err := cluster.NewAuthority()
	if err != nil {
		return nil, err
	}
	certificate, key, err := kubelets.Sign(pkix.Name{CommonName: "kube-apiserver-kubelet-client", Organization: []string{"system:masters"}})
	if err != nil {
		return nil, err
	}
	for name, data := range map[string][]byte{"kubelets.crt": kubelets.Bundle, "to-kubelet.crt": certificate, "to-kubelet.key": key} {
		if err := os.WriteFile(n.in(name), data, 0o600); err != nil {
			return nil, err
		}
	}
	n.Cluster, err = cluster.Start(ctx, cluster.Config{Bind: "0.0.0.0", Advertise: Address, Arguments: []string{
		"--endpoint-reconciler-type=lease", "--kubelet-preferred-address-types=InternalIP",
		"--kubelet-client-certificate=" + n.in("to-kubelet.crt"), "--kubelet-client-key=" + n.in("to-kubelet.key"),
	}})
	if err != nil {
		return nil, err
	}
	n.say("the API server is ready")
	if err := n.StartControllers([]string{"*"}, "--flex-volume-plugin-dir="+n.in("flex")); err != nil {
		return nil, err
	}
	n.processes["controllers"] = n.Controllers()
	for _, part := range []func() error{n.scheduler, n.kubelet, n.proxy, n.dns} {
		if err := part(); err != nil {
			return nil, err
		}
	}
	if err := n.Until(ctx, "the node is ready", func() (bool, error) {
		r, err := n.RunKubectl("", "get", "node", Name, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		return r.Stdout == "True", err
	}); err != nil {
		return nil, err
	}
	return n, n.Until(ctx, "namespace default has its ServiceAccount", func() (bool, error) {
		r, err := n.RunKubectl("", "get", "serviceaccount", "default")
		return r.Code == 0, err
	})
}

func (n *Node) in(name string) string { return filepath.Join(n.dir, name) }

func (n *Node) say(format string, arguments ...any) {
	if n.config.Say != nil {
		n.config.Say(format, arguments...)
	}
}

// Until waits until something holds. It fails at once where a part of the node ended.
func (n *Node) Until(ctx context.Context, what string, holds func() (bool, error)) error {
	for {
		yes, err := holds()
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if yes {
			n.say("%s", what)
			return nil
		}
		for name, process := range n.processes {
			select {
			case <-process.Done():
				return fmt.Errorf("%s: %s ended\n%s", what, name, process.Tail())
			default:
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-time.After(pollEvery):
		}
	}
}

// Tail is the end of what a part of the node said: containerd, controllers, scheduler,
// kubelet, proxy or dns.
func (n *Node) Tail(part string) string {
	if process := n.processes[part]; process != nil {
		return process.Tail()
	}
	return ""
}

// network makes the node's own: a bridge that has its address, and a way to every address.
func (n *Node) network(ctx context.Context) error {
	for _, line := range []string{
		"link set lo up", "link add node0 type bridge", "address add " + Address + "/24 dev node0", "link set node0 up",
		"route add default dev node0", // without a way to them, addresses of Services are not looked at
	} {
		if out, err := exec.CommandContext(ctx, "ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", line, err, out)
		}
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644)
}

// launch starts a part of the node.
func (n *Node) launch(name, program string, args ...string) error {
	process, err := cluster.Launch(n.in(name+".log"), program, args...)
	if err != nil {
		return err
	}
	n.processes[name] = process
	return nil
}

// kubeconfig writes how a part of the node reaches the API server.
func (n *Node) kubeconfig(part, name string, groups ...string) (string, error) {
	path := n.in(part + ".conf")
	return path, n.WriteUser(path, name, groups...)
}

func (n *Node) kubebox() string { return filepath.Join(n.Binaries, "kubebox") }

func (n *Node) scheduler() error {
	conf, err := n.kubeconfig("scheduler", "system:kube-scheduler")
	if err != nil {
		return err
	}
	return n.launch("scheduler", n.kubebox(), "kube-scheduler", "--kubeconfig="+conf, "--leader-elect=false", "--secure-port=0")
}

func (n *Node) kubelet() error {
	conf, err := n.kubeconfig("kubelet", "system:node:"+Name, "system:nodes")
	if err != nil {
		return err
	}
	if err := os.WriteFile(n.in("resolv.conf"), []byte("nameserver "+Address+"\n"), 0o644); err != nil {
		return err
	}
	path := n.in("kubelet.yaml")
	// Nothing is evicted from a machine whose disk others fill.
	if err := os.WriteFile(path, []byte(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
failSwapOn: false
containerRuntimeEndpoint: unix://`+n.socket+`
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: `+n.in("kubelets.crt")+`}}
authorization: {mode: Webhook}
evictionHard: {nodefs.available: "0%", imagefs.available: "0%", memory.available: "1Mi"}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
clusterDomain: cluster.local
clusterDNS: [`+Address+`]
resolvConf: `+n.in("resolv.conf")+`
volumePluginDir: `+n.in("flex")+`
shutdownGracePeriod: 0s
syncFrequency: 10s
configMapAndSecretChangeDetectionStrategy: Watch
`), 0o600); err != nil {
		return err
	}
	return n.launch("kubelet", n.kubebox(), "kubelet", "--config="+path, "--kubeconfig="+conf, "--hostname-override="+Name, "--node-ip="+Address,
		"--root-dir="+n.in("kubelet"), "--cert-dir="+n.in("kubelet-pki"))
}

func (n *Node) proxy() error {
	conf, err := n.kubeconfig("proxy", "system:kube-proxy")
	if err != nil {
		return err
	}
	path := n.in("proxy.yaml")
	if err := os.WriteFile(path, []byte(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: `+conf+`}
hostnameOverride: `+Name+`
clusterCIDR: `+podNet+`
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
nftables: {minSyncPeriod: 100ms}
metricsBindAddress: 127.0.0.1:10249
`), 0o600); err != nil {
		return err
	}
	return n.launch("proxy", n.kubebox(), "kube-proxy", "--config="+path)
}

// dns answers for the names of the cluster as CoreDNS does anywhere, and for those of the
// small internet. It is a process of the node, not a Pod.
func (n *Node) dns() error {
	conf, err := n.kubeconfig("dns", "coredns", "system:masters")
	if err != nil {
		return err
	}
	hosts := n.in("hosts")
	if err := os.WriteFile(hosts, []byte(lines(n.config.Hosts)), 0o600); err != nil {
		return err
	}
	path := n.in("Corefile")
	if err := os.WriteFile(path, []byte(`.:53 {
    bind `+Address+`
    errors
    hosts `+hosts+` {
        fallthrough
    }
    kubernetes cluster.local {
        kubeconfig `+conf+`
    }
}
`), 0o600); err != nil {
		return err
	}
	return n.launch("dns", n.config.CoreDNS, "-conf", path)
}

// Stop ends the parts of the node. What runs in Pods ends with the namespaces, and Main
// removes what is left of them.
func (n *Node) Stop() {
	for _, name := range []string{"kubelet", "proxy", "scheduler", "dns", "containerd"} {
		if process := n.processes[name]; process != nil {
			process.Kill()
		}
	}
	if n.Cluster != nil {
		n.Cluster.Stop()
	}
}
