package proxy

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
)

// oneByOne is a listener of connections that are handed to it.
type oneByOne struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *oneByOne) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *oneByOne) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *oneByOne) Addr() net.Addr { return &net.TCPAddr{} }

// handed is a connection that says when it is closed.
type handed struct {
	net.Conn
	closed chan struct{}
	once   sync.Once
}

func (c *handed) Close() error { c.once.Do(func() { close(c.closed) }); return c.Conn.Close() }

// echoGRPC is a server of gRPC that answers any method: each message comes back at once, and
// the method "/t.T/Fail" fails after the first.
func echoGRPC(t *testing.T) func(net.Conn) {
	l := &oneByOne{conns: make(chan net.Conn), done: make(chan struct{})}
	s := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(stream)
		stream.SetHeader(metadata.Pairs("x-method", method))
		stream.SetTrailer(metadata.Pairs("x-trailer", "ends"))
		for {
			m := new(wrapperspb.StringValue)
			if err := stream.RecvMsg(m); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
			if strings.HasSuffix(method, "/Fail") {
				return status.Error(codes.NotFound, "no such thing: ä%")
			}
			if err := stream.SendMsg(m); err != nil {
				return err
			}
		}
	}))
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return func(c net.Conn) {
		h := &handed{Conn: c, closed: make(chan struct{})}
		select {
		case l.conns <- h:
			<-h.closed
		case <-l.done:
		}
	}
}

// grpcTo is a client of gRPC that dials as the workload does.
func (m *meshOf) grpcTo(name string, port uint16) *grpc.ClientConn {
	m.t.Helper()
	c, err := grpc.NewClient("passthrough:///"+name, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(name),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return m.dial(name, port), nil }))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { c.Close() })
	return c
}

func message(s string) *wrapperspb.StringValue { return wrapperspb.String(s) }

func inTime(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// Inside the mesh gRPC works whatever was said of the port, but that it is tcp: calls, streams
// both ways without a buffer between, metadata, trailers, and the server's own errors.
func TestCallsOfGRPCPassInsideTheMesh(t *testing.T) {
	for _, spoken := range []policy.Protocol{policy.ProtocolGRPC, policy.ProtocolHTTP2, policy.ProtocolHTTP, policy.ProtocolNone} {
		t.Run("port "+spoken.String(), func(t *testing.T) {
			t.Parallel()
			m := newMesh(t, newFakeNet(t))
			m.speaking("greeter", spoken, echoGRPC(t))
			c := m.grpcTo("greeter.default.svc.cluster.local", 9080)
			ctx := inTime(t)
			for range 3 {
				var header, trailer metadata.MD
				got := new(wrapperspb.StringValue)
				long := strings.Repeat("x", 200_000)
				if err := c.Invoke(ctx, "/t.T/Echo", message(long), got, grpc.Header(&header), grpc.Trailer(&trailer)); err != nil || got.Value != long {
					t.Fatalf("%d bytes, %v", len(got.Value), err)
				}
				if header.Get("x-method")[0] != "/t.T/Echo" || trailer.Get("x-trailer")[0] != "ends" {
					t.Errorf("header %v, trailer %v", header, trailer)
				}
			}
			stream, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/t.T/Stream")
			if err != nil {
				t.Fatal(err)
			}
			for _, said := range []string{"a", "b", "c"} { // each has to come back before the next is sent
				got := new(wrapperspb.StringValue)
				if err := stream.SendMsg(message(said)); err != nil {
					t.Fatal(err)
				}
				if err := stream.RecvMsg(got); err != nil || got.Value != said {
					t.Fatalf("%q, %v", got.Value, err)
				}
			}
			stream.CloseSend()
			if err := stream.RecvMsg(new(wrapperspb.StringValue)); err != io.EOF {
				t.Errorf("after the end: %v", err)
			}
			err = c.Invoke(ctx, "/t.T/Fail", message("x"), new(wrapperspb.StringValue))
			if s := status.Convert(err); s.Code() != codes.NotFound || s.Message() != "no such thing: ä%" {
				t.Errorf("the server's error: %v", err)
			}
			c.Close()
			m.closed(5)
			// The streams' records are closed in whatever order.
			if f := m.flowOf("of the call that fails", func(r *record.Record) bool { return r.Path == "/t.T/Fail" }); f.Verdict != record.Allowed || f.Method != "POST" || f.Status != 200 {
				t.Errorf("recorded: %+v", f)
			}
		})
	}
}

// A call that does not come about ends at once with what is wrong, in gRPC's own terms.
func TestACallOfGRPCThatIsRefusedSaysWhy(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.speaking("greeter", policy.ProtocolGRPC, echoGRPC(t))
	err := m.grpcTo("greeter.default.svc.cluster.local", 9999).Invoke(inTime(t), "/t.T/Echo", message("x"), new(wrapperspb.StringValue))
	if s := status.Convert(err); s.Code() != codes.Unavailable || !strings.Contains(s.Message(), "does not serve port 9999; it serves 9080") {
		t.Errorf("a port that is not served: %v", err)
	}
}

// A plaintext call to a host that no rule allows ends at once with PERMISSION_DENIED and the
// rule that would allow it.
func TestACallOfGRPCToADeniedHostNamesTheRule(t *testing.T) {
	n := newFakeNet(t)
	n.site("api.example.com", "93.184.215.16", 80, func(net.Conn) { t.Error("it was dialled") })
	m := newMesh(t, n)
	m.allow(rule(t, "other.example.com:80"))
	start := time.Now()
	err := m.grpcTo("api.example.com", 80).Invoke(inTime(t), "/t.T/Echo", message("x"), new(wrapperspb.StringValue))
	if s := status.Convert(err); s.Code() != codes.PermissionDenied || !strings.Contains(s.Message(), "Sluice denied this call") || !strings.Contains(s.Message(), "kind: EgressPolicy") {
		t.Errorf("denied after %v: %v", time.Since(start), err)
	}
	m.closed(1)
	if f := m.lastFlow(); f.Verdict != record.Denied || f.Host != "api.example.com" || f.Path != "/t.T/Echo" {
		t.Errorf("recorded: %+v", f)
	}
}

// A plaintext call to a host that a rule allows gets there.
func TestACallOfGRPCToAnAllowedHostPasses(t *testing.T) {
	n := newFakeNet(t)
	n.site("api.example.com", "93.184.215.16", 80, echoGRPC(t))
	m := newMesh(t, n)
	m.allow(rule(t, "api.example.com:80"))
	got := new(wrapperspb.StringValue)
	if err := m.grpcTo("api.example.com", 80).Invoke(inTime(t), "/t.T/Echo", message("x"), got); err != nil || got.Value != "x" {
		t.Errorf("%q, %v", got.Value, err)
	}
}
