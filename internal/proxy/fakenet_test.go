package proxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/advice"
	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/control/compile"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/dnsserver"
	"sluice.dev/sluice/internal/proxy/loop"
	"sluice.dev/sluice/internal/proxy/mesh"
	"sluice.dev/sluice/internal/proxy/resolve"
	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/wire"
)

// fakeNet is an internet on loopback: a resolver that knows a few names, and a
// server on loopback behind each public address.
type fakeNet struct {
	t     testing.TB
	dns   map[string]string // name to addresses
	mu    sync.Mutex
	sites map[netip.AddrPort]string // where a public address really is
	// failures is what connecting to an address comes to.
	failures map[netip.Addr]error
	ca       *x509.Certificate
	key      *ecdsa.PrivateKey
	pem      string
	udp      net.PacketConn
	asked    map[string]bool // names that the resolver was asked for
	changes  []func(*Config) // to the proxies that are made on it
	stocks   stocks          // of those proxies; the zero stocks leaves them
	silences chan error      // how waiting for addresses that do not answer ended
	looped   bool            // connections of its meshes' workloads come by an event loop
	begun    atomic.Int64    // connections that an event loop has begun
}

// errSilent, as what connecting comes to, is no answer until its context ends.
var errSilent = errors.New("no answer")

func newFakeNet(t testing.TB) *fakeNet {
	t.Helper()
	n := &fakeNet{t: t, dns: make(map[string]string), sites: make(map[netip.AddrPort]string), failures: make(map[netip.Addr]error), asked: make(map[string]bool), silences: make(chan error, 16)}
	var err error
	if n.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, n.key.Public(), n.key)
	if err != nil {
		t.Fatal(err)
	}
	if n.ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	n.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	if n.udp, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.udp.Close() })
	go n.serveDNS()
	return n
}

// site makes a name lead to a public address behind which serve runs.
func (n *fakeNet) site(name, address string, port uint16, serve func(net.Conn)) {
	n.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dns[name+"."] = address
	n.sites[netip.AddrPortFrom(netip.MustParseAddr(address), port)] = l.Addr().String()
}

// leads makes a name lead to an address to which connecting comes to failure.
func (n *fakeNet) leads(name, address string, failure error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dns[name+"."], n.failures[netip.MustParseAddr(address)] = address, failure
}

// overTLS serves TLS with a certificate for the names and addresses.
func (n *fakeNet) overTLS(serve func(net.Conn), dnsNames ...string) func(net.Conn) {
	n.t.Helper()
	server := n.overTLSConfig(new(tls.Config), dnsNames...)
	return func(c net.Conn) { serve(server(c)) }
}

func (n *fakeNet) overTLSConfig(config *tls.Config, dnsNames ...string) func(net.Conn) *tls.Conn {
	n.t.Helper()
	config.Certificates = []tls.Certificate{n.certificate(dnsNames...)}
	return func(c net.Conn) *tls.Conn { return tls.Server(c, config) }
}

// certificate is one of the internet's CA for the names and addresses.
func (n *fakeNet) certificate(dnsNames ...string) tls.Certificate {
	n.t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	for _, name := range dnsNames {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, n.ca, n.key.Public(), n.key)
	if err != nil {
		n.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: n.key}
}

func (n *fakeNet) serveDNS() {
	buf := make([]byte, 4096)
	for {
		size, from, err := n.udp.ReadFrom(buf)
		if err != nil {
			return
		}
		var p dnsmessage.Parser
		h, err := p.Start(buf[:size])
		if err != nil {
			continue
		}
		q, err := p.Question()
		if err != nil {
			continue
		}
		h.Response, h.RecursionAvailable = true, true
		b := dnsmessage.NewBuilder(nil, h)
		b.StartQuestions()
		b.Question(q)
		b.StartAnswers()
		name, err := names.Parse(q.Name.String())
		n.mu.Lock()
		n.asked[name.String()] = true
		addresses := n.dns[name.String()+"."]
		n.mu.Unlock()
		for _, address := range strings.Fields(addresses) {
			if err == nil && q.Type == dnsmessage.TypeA {
				b.AResource(dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60}, dnsmessage.AResource{A: netip.MustParseAddr(address).As4()})
			}
		}
		out, _ := b.Finish()
		n.udp.WriteTo(out, from)
	}
}

// DialTCP implements capture.Sockets.
func (n *fakeNet) DialTCP(ctx context.Context, _ netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
	n.mu.Lock()
	at, ok := n.sites[to]
	failure := n.failures[to.Addr()]
	n.mu.Unlock()
	switch {
	case failure == errSilent:
		<-ctx.Done()
		select {
		case n.silences <- ctx.Err():
		default:
		}
		return nil, ctx.Err()
	case failure != nil:
		return nil, failure
	case !ok:
		return nil, fmt.Errorf("connect %v: nobody is there", to)
	}
	c, err := (&net.Dialer{Control: capture.ControlUrgent}).DialContext(ctx, "tcp", at)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// BeginTCP implements resolve.Beginner.
func (n *fakeNet) BeginTCP(to netip.AddrPort) (fd int, err error) {
	n.mu.Lock()
	at, ok := n.sites[to]
	failure := n.failures[to.Addr()]
	n.mu.Unlock()
	switch {
	case failure != nil:
		return -1, failure
	case !ok:
		return -1, fmt.Errorf("connect %v: nobody is there", to)
	}
	n.begun.Add(1)
	return capture.Host{}.BeginTCP(netip.MustParseAddrPort(at))
}

// DialUDP implements capture.Sockets.
func (n *fakeNet) DialUDP(context.Context, netip.AddrPort) (net.Conn, error) {
	return net.Dial("udp", n.udp.LocalAddr().String())
}

// Close implements capture.Sockets.
func (n *fakeNet) Close() error { return nil }

// meshOf is a proxy on a fake internet with one workload that nothing captured.
type meshOf struct {
	faulty   bool // the objects have faults that are reported
	t        testing.TB
	net      *fakeNet
	proxy    *Proxy
	ring     *record.Ring
	workload *Workload
	holder   *snapshot.Holder
	names    *dnsserver.Table
	peers    []wire.Workload             // that the snapshots know beside our workload
	services []*compile.Service          // that a cluster knows; nil: the workloads say what there is
	objects  []api.Object                // of which the snapshots are made besides
	labels   map[string]string           // of our workload
	carried  atomic.Pointer[net.TCPConn] // the proxy's end of the connection that was dialled last
	dialled  atomic.Pointer[net.TCPConn] // the workload's end of it
	outbound string                      // the outbound default of the snapshots; "" is Deny
	carrying sync.WaitGroup
	clock    atomic.Int64 // by which the rules are ahead of the time
	told     uint64       // records that lastFlow knows of
}

func newMesh(t testing.TB, n *fakeNet, rules ...policy.Rule) *meshOf {
	t.Helper()
	resolver := resolve.NewResolver(resolve.ResolverConfig{Sockets: n, Servers: []netip.AddrPort{netip.MustParseAddrPort("8.8.8.8:53")}})
	t.Cleanup(resolver.Close)
	m := &meshOf{t: t, net: n, ring: record.NewRing(), names: dnsserver.NewTable(dnsserver.TableConfig{})}
	book := record.NewBook(m.ring)
	config := Config{Sockets: n, Resolver: resolver, Records: book, TellAll: true}
	for _, change := range n.changes {
		change(&config)
	}
	p, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	if n.stocks != (stocks{}) {
		p.capacity = newCapacity(n.stocks)
	}
	m.proxy = p
	m.holder = snapshot.NewHolder(snapshot.HolderConfig{Now: func() time.Time { return time.Now().Add(time.Duration(m.clock.Load())) }})
	m.allow(rules...)
	m.workload, err = p.Attach(t.Context(), WorkloadConfig{
		Workload: wire.Workload{Instance: "client/1", Namespace: "default"}, Holder: m.holder, Names: m.names,
	})
	if err != nil {
		t.Fatal(err)
	}
	if n.looped {
		if m.workload.loop, err = loop.Open(loop.Config{Tick: patience}); err != nil { // a machine that stalls is not to decide
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		p.Close()
		m.carrying.Wait()
		if open := book.Live(10, record.Filter{}); len(open) > 0 {
			t.Errorf("records were opened and never closed: %+v", open)
		}
		for what, stock := range map[string]*share.Stock{"connections": p.capacity.down, "upstream connections": p.capacity.up, "handshakes": p.capacity.handshakes, "buffers of first bytes": p.capacity.hellos, "pipes": p.capacity.pipes} {
			if n := stock.Used(); n != 0 {
				t.Errorf("%d %s were taken and never given back", n, what)
			}
		}
	})
	return m
}

// allow swaps in these rules, as the only ones, with the fake internet's CA as the
// mesh's trusted root.
func (m *meshOf) allow(rules ...policy.Rule) {
	m.t.Helper()
	m.holder.Swap(m.compile(rules...))
}

// compile makes the snapshot that allow swaps in.
func (m *meshOf) compile(rules ...policy.Rule) *snapshot.Snapshot {
	m.t.Helper()
	workload, err := wire.Workload{Namespace: "default", Labels: m.labels}.Normalize()
	if err != nil {
		m.t.Fatal(err)
	}
	objects, err := api.Decode("mesh.yaml", meshConfig(m.net.pem, m.outbound))
	if err != nil {
		m.t.Fatal(err)
	}
	objects = append(objects, m.objects...)
	out := compile.Compile(compile.Input{Objects: objects, Workloads: append([]wire.Workload{workload}, m.peers...), Services: m.services, Allow: rules, Created: time.Now()})
	for _, problem := range out.Problems {
		if m.faulty {
			break
		}
		m.t.Errorf("%s: %s", problem.Object, problem.Text)
	}
	compiled, err := out.ForWorkload(workload)
	if err != nil {
		m.t.Fatal(err)
	}
	built, err := snapshot.Build(compiled, snapshot.View{Namespace: "default"})
	if err != nil {
		m.t.Fatal(err)
	}
	return built
}

// service makes a workload of our proxy serve a service on port 9080 of its sandbox.
func (m *meshOf) service(name string, serve func(net.Conn)) {
	m.t.Helper()
	m.instance(name, 1, serve)
}

// instance makes one of several workloads serve a service, until its listener closes.
func (m *meshOf) instance(name string, number int, serve func(net.Conn)) net.Listener {
	m.t.Helper()
	return m.serving(name, number, policy.ProtocolNone, serve)
}

// speaking is service where it is said what is spoken on the port.
func (m *meshOf) speaking(name string, spoken policy.Protocol, serve func(net.Conn)) {
	m.t.Helper()
	m.serving(name, 1, spoken, serve)
}

func (m *meshOf) serving(name string, number int, spoken policy.Protocol, serve func(net.Conn)) net.Listener {
	m.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	joined, err := wire.Workload{Namespace: "default", Service: name, Version: "v1", Ports: []uint16{9080}, Protocols: map[uint16]policy.Protocol{9080: spoken}}.Normalize()
	if err != nil {
		m.t.Fatal(err)
	}
	joined.Instance = fmt.Sprintf("%s-v1/%d", name, number)
	w, err := m.proxy.Attach(m.t.Context(), WorkloadConfig{Workload: joined, Holder: snapshot.NewHolder(snapshot.HolderConfig{})})
	if err != nil {
		m.t.Fatal(err)
	}
	w.inward = func(ctx context.Context, _ mesh.Caller, _ uint16) (*net.TCPConn, error) {
		c, err := (&net.Dialer{Control: capture.ControlUrgent}).DialContext(ctx, "tcp", l.Addr().String())
		if err != nil {
			return nil, err
		}
		return c.(*net.TCPConn), nil
	}
	m.peers = append(m.peers, joined)
	m.allow()
	return l
}

// turnStale lets the rules grow older than they may be.
func (m *meshOf) turnStale() {
	m.t.Helper()
	m.clock.Add(int64(m.holder.Load().MaxStale) + 1)
	if !m.holder.Expire() {
		m.t.Fatal("the snapshot is not stale")
	}
}

// rule is a rule as --allow has it.
func rule(t testing.TB, text string) policy.Rule {
	t.Helper()
	r, err := advice.ParseAllow(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// lastFlow is the record that was closed last, once there is one that it has not returned yet
// or passed over.
func (m *meshOf) lastFlow() record.Record {
	m.t.Helper()
	until(m.t, "one more record is closed", func() bool { return m.ring.Added() > m.told })
	m.told = m.ring.Added()
	return m.ring.Recent(1, record.Filter{})[0]
}

// peer is the workload of that instance.
func (m *meshOf) peer(instance string) *Workload {
	m.proxy.mu.Lock()
	defer m.proxy.mu.Unlock()
	return m.proxy.workloads[instance]
}

// closed waits until so many records were closed.
func (m *meshOf) closed(n uint64) {
	m.t.Helper()
	for deadline := time.Now().Add(patience); m.ring.Added() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			m.t.Fatalf("%d records are closed, want %d", m.ring.Added(), n)
		}
	}
}
