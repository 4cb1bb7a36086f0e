// Package cluster runs the control plane of a real Kubernetes for tests: etcd and
// kube-apiserver as processes of package binaries, on loopback, with certificates of
// their own. Tests of this module call it; it must never leave a process or a folder behind.
//
// A package of tests has one in a variable and ends it in TestMain:
//
//	var shared cluster.Shared
//
//	func TestMain(m *testing.M) { code := m.Run(); shared.Stop(); os.Exit(code) }
//
//	func TestSomething(t *testing.T) {
//		c := shared.Get(t)       // started once; the test is skipped where the binaries are missing
//		namespace := c.Namespace(t)
//		r := c.Kubectl(t, "", "-n", namespace, "get", "pods")
//	}
//
// What is there: Config for client-go as system:masters, User for anybody else, Kubectl,
// Kubeconfig; StopAPIServer and StartAPIServer on the same port for tests of watches.
// StartControllers runs controllers of the real controller-manager.
// What is not: no controller-manager at first, so no default ServiceAccount except in the namespaces
// of Namespace, no garbage collection, no EndpointSlices, and namespaces stay Terminating.
// A webhook is reached by clientConfig.url alone. A create of a custom resource takes 2 s
// where its CRD was established less than 2 s ago.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"sluice.dev/sluice/test/kube/binaries"
)

const (
	startTimeout = 2 * time.Minute // on a busy machine; 3 s as a rule
	stopTimeout  = 20 * time.Second
	pollEvery    = 20 * time.Millisecond
)

// Config configures a Cluster; the zero value is a control plane on loopback.
type Config struct {
	// Binaries is the folder of kubebox and kubectl; empty: that of package binaries.
	Binaries string
	// Bind is the address that the API server listens on and Advertise the one that it is known
	// by inside the cluster; empty: 127.0.0.1. Clients of the test use Advertise.
	Bind, Advertise string
	// Arguments are further flags of the API server; a flag's last value counts.
	Arguments []string
}

// Cluster is a running control plane.
type Cluster struct {
	Dir        string // of all its files; removed by Stop
	Binaries   string
	Server     string       // "https://127.0.0.1:6443"
	Config     *rest.Config // of an administrator (system:masters)
	Kubeconfig string       // a file for the same
	Authority  *Authority   // of the API server and its clients

	config  Config
	port    int
	etcdURL string
	etcd    *Process
	api     *Process
	manager *Process // nil where no controllers run
}

// Start starts a control plane and waits until it is ready. Where the binaries are missing
// the error is a *binaries.MissingError.
func Start(ctx context.Context, config Config) (*Cluster, error) {
	if config.Binaries == "" {
		module, err := moduleFolder()
		if err != nil {
			return nil, err
		}
		if config.Binaries, err = binaries.Find(module); err != nil {
			return nil, err
		}
	}
	if config.Bind == "" {
		config.Bind = "127.0.0.1"
	}
	if config.Advertise == "" {
		config.Advertise = "127.0.0.1"
	}
	// Another process may take a chosen port before it is bound.
	c, err := start(ctx, config)
	if err != nil && ctx.Err() == nil {
		c, err = start(ctx, config)
	}
	return c, err
}

func start(ctx context.Context, config Config) (c *Cluster, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "kube")
	if err != nil {
		return nil, err
	}
	c = &Cluster{Dir: dir, Binaries: config.Binaries, config: config}
	defer func() {
		if err != nil {
			c.Stop()
		}
	}()
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	c.port, c.etcdURL = ports[0], "http://127.0.0.1:"+strconv.Itoa(ports[1])
	c.Server = "https://" + net.JoinHostPort(config.Advertise, strconv.Itoa(c.port))
	if c.Authority, err = NewAuthority(); err != nil {
		return nil, err
	}
	if err := c.writeCertificates(); err != nil {
		return nil, err
	}
	if c.Config, err = c.user("admin", "system:masters"); err != nil {
		return nil, err
	}
	c.Kubeconfig = filepath.Join(dir, "admin.conf")
	if err := WriteKubeconfig(c.Kubeconfig, c.Config); err != nil {
		return nil, err
	}
	peer := "http://127.0.0.1:" + strconv.Itoa(ports[2])
	c.etcd, err = Launch(filepath.Join(dir, "etcd.log"), filepath.Join(c.Binaries, "kubebox"), "etcd",
		"--name=test", "--data-dir="+filepath.Join(dir, "etcd"), "--log-level=warn", "--unsafe-no-fsync",
		"--listen-client-urls="+c.etcdURL, "--advertise-client-urls="+c.etcdURL,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=test="+peer)
	if err != nil {
		return nil, err
	}
	return c, c.StartAPIServer(ctx)
}

// StartAPIServer starts the API server, on the port of the one before, and waits until it is ready.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	in := func(name string) string { return filepath.Join(c.Dir, name) }
	args := []string{
		"kube-apiserver", "--etcd-servers=" + c.etcdURL,
		"--bind-address=" + c.config.Bind, "--advertise-address=" + c.config.Advertise, "--secure-port=" + strconv.Itoa(c.port),
		"--tls-cert-file=" + in("server.crt"), "--tls-private-key-file=" + in("server.key"), "--client-ca-file=" + in("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + in("accounts.key"), "--service-account-signing-key-file=" + in("accounts.key"),
		"--service-cluster-ip-range=10.0.0.0/24", "--authorization-mode=Node,RBAC",
		"--endpoint-reconciler-type=none", "--allow-privileged=true",
	}
	var err error
	c.api, err = Launch(in("apiserver.log"), filepath.Join(c.Binaries, "kubebox"), append(args, c.config.Arguments...)...)
	if err != nil {
		return err
	}
	client, err := rest.HTTPClientFor(c.Config)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	for {
		if ready(ctx, client, c.Server+"/readyz") {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the API server is not ready: %w\n%s", ctx.Err(), c.api.Tail())
		case <-c.etcd.Done():
			return fmt.Errorf("etcd ended\n%s", c.etcd.Tail())
		case <-c.api.Done():
			return fmt.Errorf("the API server ended\n%s", c.api.Tail())
		case <-time.After(pollEvery):
		}
	}
}

func ready(ctx context.Context, client *http.Client, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// StopAPIServer ends the API server as a crash would; etcd keeps what was stored.
func (c *Cluster) StopAPIServer() { c.api.Kill() }

// Stop ends everything and removes the folder. It may be called more than once.
func (c *Cluster) Stop() {
	for _, process := range []*Process{c.manager, c.api, c.etcd} {
		if process != nil {
			process.Kill() // nothing of it is kept
		}
	}
	_ = os.RemoveAll(c.Dir)
}

// EtcdURL is where etcd listens, for a test that looks at what is stored.
func (c *Cluster) EtcdURL() string { return c.etcdURL }

// freePorts returns ports that were free a moment ago.
func freePorts(n int) (ports []int, err error) {
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = listener.Close() }() // held until all were chosen
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// moduleFolder returns the folder of this module, in or below which tests run.
func moduleFolder() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "kubebox", "main.go")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("run in test/kube: kubebox is not in a folder above this one")
		}
		dir = parent
	}
}

// WriteKubeconfig writes a file with which kubectl does what config does.
func WriteKubeconfig(path string, config *rest.Config) error {
	return clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{"test": {Server: config.Host, CertificateAuthorityData: config.CAData}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{"user": {
			ClientCertificateData: config.CertData, ClientKeyData: config.KeyData, Token: config.BearerToken,
		}},
		Contexts:       map[string]*clientcmdapi.Context{"test": {Cluster: "test", AuthInfo: "user"}},
		CurrentContext: "test",
	}, path)
}
