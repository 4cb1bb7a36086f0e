package cluster

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"sluice.dev/sluice/test/kube/binaries"
)

// Shared is the one Cluster of a package of tests.
type Shared struct {
	Config Config
	// Prepare is called once, when it is ready: for CRDs, as a rule.
	Prepare func(*Cluster) error

	once sync.Once
	c    *Cluster
	err  error
}

// Get returns the cluster, which it starts for the first test. Where the binaries were not
// built it skips the test.
func (s *Shared) Get(t testing.TB) *Cluster {
	t.Helper()
	s.once.Do(func() {
		if s.c, s.err = Start(context.Background(), s.Config); s.err == nil && s.Prepare != nil {
			s.err = s.Prepare(s.c)
		}
	})
	var missing *binaries.MissingError
	switch {
	case errors.As(s.err, &missing):
		t.Skip(missing)
	case s.err != nil:
		t.Fatal(s.err)
	}
	return s.c
}

// Stop ends the cluster, if one was started.
func (s *Shared) Stop() {
	if s.c != nil {
		s.c.Stop()
	}
}

// New starts a cluster for one test alone, which may break it.
func New(t testing.TB, config Config) *Cluster {
	t.Helper()
	c, err := Start(t.Context(), config)
	var missing *binaries.MissingError
	switch {
	case errors.As(err, &missing):
		t.Skip(missing)
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c
}

// User returns how client-go reaches the API server as somebody with a client certificate.
func (c *Cluster) User(t testing.TB, name string, groups ...string) *rest.Config {
	t.Helper()
	config, err := c.user(name, groups...)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// Client returns a client as an administrator.
func (c *Cluster) Client(t testing.TB) *kubernetes.Clientset {
	t.Helper()
	client, err := kubernetes.NewForConfig(c.Config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// Namespace makes a namespace for one test, with labels (pairs of key and value), and its
// default ServiceAccount. It stays, as nobody would finish its removal.
func (c *Cluster) Namespace(t testing.TB, labels ...string) string {
	t.Helper()
	client := c.Client(t)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: map[string]string{}}}
	for i := 0; i+1 < len(labels); i += 2 {
		namespace.Labels[labels[i]] = labels[i+1]
	}
	made, err := client.CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := client.CoreV1().ServiceAccounts(made.Name).Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return made.Name
}

// Result is how a command ended.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// kubectlTimeout bounds one call of kubectl.
const kubectlTimeout = 2 * time.Minute

// Kubectl runs the real kubectl as an administrator.
func (c *Cluster) Kubectl(t testing.TB, input string, args ...string) Result {
	t.Helper()
	result, err := c.RunKubectl(input, args...)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// RunKubectl is Kubectl where there is no test, as in Prepare.
func (c *Cluster) RunKubectl(input string, args ...string) (Result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), kubectlTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(c.Binaries, "kubectl"), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	// Its own home: it keeps what discovery told it.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.Dir, "KUBECONFIG=" + c.Kubeconfig}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return Result{}, err
	}
	return Result{Code: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}, nil
}
