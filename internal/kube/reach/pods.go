package reach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

const (
	// Port is where a server of a Pod answers questions, on its own loopback.
	Port = 15016
	// Selector is the label of the servers' Pods.
	Selector = "app.kubernetes.io/name=sluice-server"

	// maxRefusal bounds what the kubelet says of a port that it does not reach, in bytes.
	maxRefusal = 4 << 10
	// dialTimeout bounds a way to a Pod.
	dialTimeout = 15 * time.Second
)

// Pods is the servers of a cluster as Pods of a namespace, each reached through the cluster's API
// server and the kubelet, as kubectl port-forward does: whoever may do that there may ask. It is
// safe for concurrent use.
type Pods struct {
	config    *rest.Config
	client    kubernetes.Interface
	namespace string

	mu  sync.Mutex
	way map[string]*http.Transport // by the UID of the Pod
}

// NewPods returns the servers of a namespace.
func NewPods(config *rest.Config, namespace string) (*Pods, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &Pods{config: config, client: client, namespace: namespace, way: make(map[string]*http.Transport)}, nil
}

// Servers lists those that are ready.
func (p *Pods) Servers(ctx context.Context) (servers []Server, err error) {
	listed, err := p.client.CoreV1().Pods(p.namespace).List(ctx, metav1.ListOptions{LabelSelector: Selector})
	if err != nil {
		return nil, fmt.Errorf("look for the servers of Sluice in namespace %s: %w", p.namespace, err)
	}
	for i := range listed.Items {
		if pod := &listed.Items[i]; isReady(pod) {
			servers = append(servers, Server{pod.Name, p.transport(pod)})
		}
	}
	switch {
	case len(listed.Items) == 0:
		return nil, fmt.Errorf("no server of Sluice is in namespace %s of this cluster: sluice install installs them", p.namespace)
	case len(servers) == 0:
		return nil, fmt.Errorf("no server of Sluice is ready: kubectl -n %s get pods -l %s shows them", p.namespace, Selector)
	}
	return servers, nil
}

func isReady(pod *corev1.Pod) bool {
	if pod.Status.Phase != corev1.PodRunning || pod.DeletionTimestamp != nil {
		return false
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// transport is the one to a Pod, which keeps what it has open.
func (p *Pods) transport(pod *corev1.Pod) *http.Transport {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.way[string(pod.UID)] == nil {
		name := pod.Name
		p.way[string(pod.UID)] = &http.Transport{
			DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return p.dial(ctx, name) },
			DisableCompression: true, MaxIdleConnsPerHost: 2, IdleConnTimeout: 30 * time.Second,
		}
	}
	return p.way[string(pod.UID)]
}

// Close closes what is open and idle.
func (p *Pods) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, transport := range p.way {
		transport.CloseIdleConnections()
	}
}

// dial connects to Port of a Pod.
func (p *Pods) dial(ctx context.Context, pod string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	type outcome struct {
		conn net.Conn
		err  error
	}
	done := make(chan outcome, 1)
	go func() { // what it calls knows no context
		conn, err := p.forward(pod)
		done <- outcome{conn, err}
	}()
	select {
	case o := <-done:
		return o.conn, o.err
	case <-ctx.Done():
		go func() {
			if o := <-done; o.conn != nil {
				_ = o.conn.Close() // nobody has used it
			}
		}()
		return nil, ctx.Err()
	}
}

func (p *Pods) forward(pod string) (net.Conn, error) {
	target := p.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(p.namespace).Name(pod).SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(p.config)
	if err != nil {
		return nil, err
	}
	older := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, target)
	dialer, err := portforward.NewSPDYOverWebsocketDialerForStreaming(target, p.config)
	if err != nil {
		return nil, err
	}
	// As kubectl does, for API servers before 1.31 and proxies on the way.
	dialer = portforward.NewFallbackDialerForStreaming(dialer, older, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	connection, _, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
	if err != nil {
		return nil, fmt.Errorf("reach Pod %s/%s (the right to create pods/portforward there is needed): %w", p.namespace, pod, err)
	}
	conn, err := newForwarded(connection, pod)
	if err != nil {
		return nil, errors.Join(err, connection.Close())
	}
	return conn, nil
}

// forwarded is one connection to a port of a Pod.
type forwarded struct {
	httpstream.Stream
	connection httpstream.Connection
	pod        string
	refused    chan struct{} // closed once refusal is known
	refusal    string        // why the port is not reached
	once       sync.Once
}

func newForwarded(connection httpstream.Connection, pod string) (*forwarded, error) {
	headers := http.Header{}
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	headers.Set(corev1.PortHeader, strconv.Itoa(Port))
	headers.Set(corev1.PortForwardRequestIDHeader, "0")
	errorStream, err := connection.CreateStream(headers)
	if err != nil {
		return nil, err
	}
	if err := errorStream.Close(); err != nil { // nothing is written to it
		return nil, err
	}
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := connection.CreateStream(headers)
	if err != nil {
		return nil, err
	}
	f := &forwarded{Stream: data, connection: connection, pod: pod, refused: make(chan struct{})}
	go func() { // ends with the connection
		text, err := io.ReadAll(io.LimitReader(errorStream, maxRefusal))
		if err == nil {
			f.refusal = strings.TrimSpace(string(text))
		}
		close(f.refused) // before Reset wakes Read, which looks at it
		if f.refusal != "" {
			_ = data.Reset() // a port that is not reached is else waited for
		}
	}()
	return f, nil
}

// Read implements net.Conn. It says why a port was not reached.
func (f *forwarded) Read(p []byte) (int, error) {
	n, err := f.Stream.Read(p)
	if err != nil && n == 0 {
		select {
		case <-f.refused:
			if f.refusal != "" {
				return 0, fmt.Errorf("port %d of Pod %s: %s", Port, f.pod, f.refusal)
			}
		default:
		}
	}
	return n, err
}

// Close implements net.Conn.
func (f *forwarded) Close() (err error) {
	f.once.Do(func() { err = errors.Join(f.Stream.Reset(), f.connection.Close()) })
	return err
}

// LocalAddr implements net.Conn.
func (f *forwarded) LocalAddr() net.Addr { return podAddr(f.pod) }

// RemoteAddr implements net.Conn.
func (f *forwarded) RemoteAddr() net.Addr { return podAddr(f.pod) }

// A stream has no deadlines, and whoever uses it ends it by a context.

// SetDeadline implements net.Conn.
func (f *forwarded) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (f *forwarded) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (f *forwarded) SetWriteDeadline(time.Time) error { return nil }

// podAddr is the name of a Pod as an address.
type podAddr string

func (podAddr) Network() string  { return "pod" }
func (a podAddr) String() string { return string(a) }
