package controlplane

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"sluice.dev/sluice/internal/control/authority"
	"sluice.dev/sluice/internal/control/server"
	"sluice.dev/sluice/internal/peer"
	"sluice.dev/sluice/internal/wire"
	"sluice.dev/sluice/internal/wire/stream"
	"sluice.dev/sluice/test/kube/cluster"
)

// patience bounds every wait of these tests; none of them passes by waiting.
const patience = time.Minute

// ours is the namespace of Sluice.
const ours = "sluice-system"

// account is as whom the servers run.
const account = "sluice-server"

var shared = cluster.Shared{Prepare: prepare}

func TestMain(m *testing.M) {
	code := m.Run()
	shared.Stop()
	os.Exit(code)
}

// prepare applies what an installation does: the kinds, and the rights of the server.
func prepare(c *cluster.Cluster) error {
	for _, path := range []string{"../../../deploy/crds", "../../../deploy/kubernetes"} {
		if r, err := c.RunKubectl("", "apply", "-f", path); err != nil || r.Code != 0 {
			return fmt.Errorf("apply %s: %w %s", path, err, r.Stderr)
		}
	}
	r, err := c.RunKubectl("", "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	if err != nil || r.Code != 0 {
		return fmt.Errorf("wait for the kinds: %w %s", err, r.Stderr)
	}
	return nil
}

// mesh is a cluster with servers of Sluice.
type mesh struct {
	*cluster.Cluster
	t      *testing.T
	client *kubernetes.Clientset
}

func newMesh(t *testing.T) *mesh { return meshOf(t, shared.Get(t)) }

func meshOf(t *testing.T, c *cluster.Cluster) *mesh {
	return &mesh{Cluster: c, t: t, client: c.Client(t)}
}

// asServer is how the server reaches the API: as its ServiceAccount, with the rights of
// deploy/kubernetes and no others.
func (m *mesh) asServer() *rest.Config {
	m.t.Helper()
	seconds := int64(3600)
	token, err := m.client.CoreV1().ServiceAccounts(ours).CreateToken(m.t.Context(), account, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds},
	}, metav1.CreateOptions{})
	if err != nil {
		m.t.Fatal(err)
	}
	return &rest.Config{Host: m.Server, TLSClientConfig: rest.TLSClientConfig{CAData: m.Config.CAData}, BearerToken: token.Status.Token}
}

// control is one server.
type control struct {
	*server.Cluster
	runtime string
	stop    func()
}

func (m *mesh) server(name string) *control {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	s, err := m.tryServer(ctx, name, m.asServer())
	if err != nil {
		m.t.Fatal(err)
	}
	return s
}

func (m *mesh) tryServer(ctx context.Context, name string, access *rest.Config) (*control, error) {
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &control{runtime: filepath.Join(dir, "run")}
	s.Cluster, err = server.StartCluster(ctx, server.ClusterConfig{
		API: access, Namespace: ours, Name: name, PushListen: "127.0.0.1:0", WebhookListen: "127.0.0.1:0", InspectListen: "127.0.0.1:0", Sidecar: sidecar, RuntimeDir: s.runtime, Version: "test", Peers: peer.Credentials{},
		Log: slog.New(slog.NewTextHandler(testLog{m.t}, &slog.HandlerOptions{Level: slog.LevelInfo})),
	})
	if err != nil {
		return nil, err
	}
	s.stop = sync.OnceFunc(s.Stop)
	m.t.Cleanup(s.stop)
	return s, nil
}

// testLog shows what is logged where the test fails.
type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Logf("%s", strings.TrimRight(string(b), "\n"))
	return len(b), nil
}

// pod makes a Pod with a token for the mesh, that has an address.
func (m *mesh) pod(namespace, name, address string, labels map[string]string) *corev1.Pod {
	m.t.Helper()
	spec := corev1.PodSpec{
		Containers: []corev1.Container{{Name: "app", Image: "app"}},
		Volumes: []corev1.Volume{{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: stream.TokenAudience, Path: "token"}}},
		}}}},
	}
	made, err := m.client.CoreV1().Pods(namespace).Create(m.t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		m.t.Fatal(err)
	}
	made.Status.Phase, made.Status.PodIP, made.Status.PodIPs = corev1.PodRunning, address, []corev1.PodIP{{IP: address}}
	if made, err = m.client.CoreV1().Pods(namespace).UpdateStatus(m.t.Context(), made, metav1.UpdateOptions{}); err != nil {
		m.t.Fatal(err)
	}
	return made
}

// token is what the kubelet would give a Pod.
func (m *mesh) token(pod *corev1.Pod, audience string) string {
	m.t.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences: []string{audience}, BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID},
	}}
	made, err := m.client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(m.t.Context(), pod.Spec.ServiceAccountName, request, metav1.CreateOptions{})
	if err != nil {
		m.t.Fatal(err)
	}
	return made.Status.Token
}

// join joins as the proxy of whoever the token was given to, and says something else of itself.
func (m *mesh) join(s *control, token string) *stream.Membership {
	m.t.Helper()
	return m.joinAt(s.PushAddress, s.CA(), token)
}

func (m *mesh) joinAt(address func() string, ca []byte, token string) *stream.Membership {
	m.t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	client, err := stream.NewClient(stream.Config{
		Dial: func(ctx context.Context) (net.Conn, error) {
			return stream.DialTLS(address(), authority.ServerName, roots)(ctx)
		},
		Proxy: "sidecar", Token: func() (string, error) { return token, nil },
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(client.Close)
	member, err := client.Join(m.t.Context(), wire.Workload{Namespace: "kube-system", Account: "admin", Labels: map[string]string{"app": "admin"}, Level: "sidecar"})
	if err != nil {
		m.t.Fatal(err)
	}
	return member
}

// until acknowledges snapshots up to one that fits.
func until(t *testing.T, member *stream.Membership, what string, fits func(*wire.Snapshot) bool) *wire.Snapshot {
	t.Helper()
	late := time.After(patience)
	var last *wire.Snapshot
	for {
		select {
		case snapshot, ok := <-member.Snapshots():
			if !ok {
				t.Fatalf("%s: the membership ended", what)
			}
			member.Ack(snapshot.Version)
			if last = snapshot; fits(snapshot) {
				return snapshot
			}
		case <-late:
			t.Fatalf("%s: not within %s; the stream ended with %v; the last snapshot: %s", what, patience, member.Err(), said(last))
		}
	}
}

func said(s *wire.Snapshot) string {
	if s == nil {
		return "none"
	}
	var services []string
	for _, service := range s.Directory.Services {
		services = append(services, service.Name.String())
	}
	return fmt.Sprintf("rules %q, services %q", ruleIDs(s), services)
}

func ruleIDs(s *wire.Snapshot) string {
	var ids []string
	for _, rule := range s.Rules() {
		ids = append(ids, rule.ID)
	}
	return strings.Join(ids, " ")
}

// eventually waits for something that no channel tells.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

func (m *mesh) apply(manifest string) {
	m.t.Helper()
	if r := m.Kubectl(m.t, manifest, "apply", "-f", "-"); r.Code != 0 {
		m.t.Fatalf("kubectl apply: %s", r.Stderr)
	}
}

// policy is an EgressPolicy for one host and the Pods with a label app.
func policy(namespace, name, host, app string) string {
	return fmt.Sprintf(`
apiVersion: sluice.dev/v1alpha1
kind: EgressPolicy
metadata: {namespace: %s, name: %s}
spec:
  from: {labels: {app: %s}}
  to:
    hosts: [%s]
    ports: [{port: 443, protocol: https}]
`, namespace, name, app, host)
}
