package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

var shared Shared

func TestMain(m *testing.M) {
	code := m.Run()
	shared.Stop()
	os.Exit(code)
}

func TestTheAPIServerIsRealAndKnowsWhoAsks(t *testing.T) {
	c := shared.Get(t)
	namespace := c.Namespace(t, "team", "books")
	if r := c.Kubectl(t, "", "get", "namespace", namespace, "-o", "jsonpath={.metadata.labels.team}"); r != (Result{Stdout: "books"}) {
		t.Errorf("%+v", r)
	}
	if r := c.Kubectl(t, "", "version"); r.Code != 0 || !strings.Contains(r.Stdout, "Server Version: v1.") {
		t.Errorf("%+v", r)
	}
	nobody, err := kubernetes.NewForConfig(c.User(t, "jason", "readers"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nobody.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a user without a role: %v", err)
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{"sluice"}}}
	token, err := c.Client(t).CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), "default", request, metav1.CreateOptions{})
	if err != nil || token.Status.Token == "" {
		t.Errorf("a token for the default account: %v", err)
	}
}

func TestAStoppedAPIServerComesBackOnItsPortWithWhatWasStored(t *testing.T) {
	c := New(t, Config{})
	namespace := c.Namespace(t)
	c.StopAPIServer()
	if _, err := c.Client(t).CoreV1().Namespaces().Get(t.Context(), namespace, metav1.GetOptions{}); err == nil {
		t.Error("a stopped server answers")
	}
	if err := c.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Client(t).CoreV1().Namespaces().Get(t.Context(), namespace, metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

func TestStopLeavesNoProcessAndNoFolder(t *testing.T) {
	c := New(t, Config{})
	processes := []int{c.api.PID(), c.etcd.PID()}
	c.Stop()
	for _, pid := range processes {
		if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
			t.Errorf("process %d: %v", pid, err)
		}
	}
	if _, err := os.Stat(c.Dir); !os.IsNotExist(err) {
		t.Errorf("the folder: %v", err)
	}
}

func TestAComponentThatEndsAtTheStartIsAnErrorWithWhatItSaid(t *testing.T) {
	shared.Get(t) // skipped where the binaries are missing
	c, err := Start(t.Context(), Config{Arguments: []string{"--no-such-flag"}})
	if err == nil {
		c.Stop()
		t.Fatal("it started")
	}
	if !strings.Contains(err.Error(), "the API server ended") || !strings.Contains(err.Error(), "no-such-flag") {
		t.Error(err)
	}
}

func TestMissingBinariesSkipATestWithTheReason(t *testing.T) {
	t.Setenv("SLUICE_KUBE_BIN", filepath.Join(t.TempDir(), "nothing"))
	var skipped bool
	t.Run("skipped", func(t *testing.T) {
		defer func() { skipped = t.Skipped() }()
		new(Shared).Get(t)
	})
	if !skipped {
		t.Error("a test ran without the binaries")
	}
}
