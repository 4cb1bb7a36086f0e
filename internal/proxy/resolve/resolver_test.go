package resolve

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/time/rate"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/refusal"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// loopback dials on loopback whatever should be elsewhere.
type loopback struct {
	mu    sync.Mutex
	at    map[netip.AddrPort]netip.AddrPort
	tried []netip.AddrPort
}

func (l *loopback) DialTCP(ctx context.Context, _ netip.Addr, dst netip.AddrPort) (*net.TCPConn, error) {
	l.mu.Lock()
	l.tried = append(l.tried, dst)
	if real, ok := l.at[dst]; ok {
		dst = real
	}
	l.mu.Unlock()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", dst.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

func (l *loopback) DialUDP(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "udp", dst.String())
}

// dnsServer is a DNS server on loopback, UDP and TCP on one port.
type dnsServer struct {
	addr  netip.AddrPort
	asked atomic.Int64 // questions
	byTCP atomic.Int64 // of them over TCP
}

// serveDNS answers with what answer returns, each message in turn.
func serveDNS(t *testing.T, answer func(q dnsmessage.Message, tcp bool) [][]byte) *dnsServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := &dnsServer{addr: l.Addr().(*net.TCPAddr).AddrPort()}
	u, err := net.ListenPacket("udp", s.addr.String())
	must(t, err)
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); u.Close(); all.Wait() })
	reply := func(message []byte, tcp bool) [][]byte {
		var q dnsmessage.Message
		if q.Unpack(message) != nil {
			return nil
		}
		s.asked.Add(1)
		if tcp {
			s.byTCP.Add(1)
		}
		return answer(q, tcp)
	}
	all.Go(func() {
		in := make([]byte, 4096)
		for {
			n, from, err := u.ReadFrom(in)
			if err != nil {
				return
			}
			for _, m := range reply(in[:n], false) {
				u.WriteTo(m, from)
			}
		}
	})
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				var length [2]byte
				if _, err := io.ReadFull(c, length[:]); err != nil {
					return
				}
				in := make([]byte, binary.BigEndian.Uint16(length[:]))
				if _, err := io.ReadFull(c, in); err != nil {
					return
				}
				for _, m := range reply(in, true) {
					c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...))
				}
			})
		}
	})
	return s
}

// record makes "owner TTL address" or "owner TTL CNAME target" a resource.
func record(text string) dnsmessage.Resource {
	f := strings.Fields(text)
	var ttl uint32
	fmt.Sscan(f[1], &ttl)
	h := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(f[0]), Class: dnsmessage.ClassINET, TTL: ttl}
	switch f[2] {
	case "SRV":
		var srv dnsmessage.SRVResource
		fmt.Sscan(strings.Join(f[3:6], " "), &srv.Priority, &srv.Weight, &srv.Port)
		srv.Target = dnsmessage.MustNewName(f[6])
		return dnsmessage.Resource{Header: h, Body: &srv}
	case "TXT":
		return dnsmessage.Resource{Header: h, Body: &dnsmessage.TXTResource{TXT: f[3:]}}
	}
	if f[2] == "CNAME" {
		return dnsmessage.Resource{Header: h, Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(f[3])}}
	}
	a := netip.MustParseAddr(f[2])
	if a.Is4() {
		return dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}}
	}
	return dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}}
}

// answered is the reply to q with records: all of them, whatever was asked.
func answered(q dnsmessage.Message, rcode dnsmessage.RCode, records ...string) []byte {
	q.Response, q.RecursionAvailable, q.RCode, q.Additionals = true, true, rcode, nil
	for _, r := range records {
		q.Answers = append(q.Answers, record(r))
	}
	m, err := q.Pack()
	if err != nil {
		panic(err)
	}
	return m
}

func withSOA(q dnsmessage.Message, rcode dnsmessage.RCode, minimum uint32) []byte {
	q.Response, q.RCode, q.Additionals = true, rcode, nil
	root := dnsmessage.MustNewName("example.com.")
	q.Authorities = []dnsmessage.Resource{{
		Header: dnsmessage.ResourceHeader{Name: root, Class: dnsmessage.ClassINET, TTL: 3600},
		Body:   &dnsmessage.SOAResource{NS: root, MBox: root, MinTTL: minimum},
	}}
	m, err := q.Pack()
	if err != nil {
		panic(err)
	}
	return m
}

// withDottedMailbox is withSOA of a zone whose mailbox is action.domains@isi.edu, as
// RFC 1035 section 8 has it: its first label holds a dot.
func withDottedMailbox(q dnsmessage.Message, minimum uint32) []byte {
	q.Response, q.Additionals = true, nil
	data := append([]byte("\x00\x0eaction.domains\x03isi\x03edu\x00"), make([]byte, 16)...)
	q.Authorities = []dnsmessage.Resource{{
		Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("example.com."), Class: dnsmessage.ClassINET, TTL: 3600},
		Body:   &dnsmessage.UnknownResource{Type: dnsmessage.TypeSOA, Data: binary.BigEndian.AppendUint32(data, minimum)},
	}}
	m, err := q.Pack()
	if err != nil {
		panic(err)
	}
	return m
}

// zone answers the records whose owner was asked for, of the type that was.
func zone(records ...string) func(dnsmessage.Message, bool) [][]byte {
	return func(q dnsmessage.Message, _ bool) [][]byte {
		var fitting []string
		known := false
		for _, r := range records {
			if !strings.EqualFold(strings.Fields(r)[0], q.Questions[0].Name.String()) {
				continue
			}
			known = true
			if typ := record(r).Body; fmt.Sprintf("%T", typ) == "*dnsmessage.CNAMEResource" ||
				fmt.Sprintf("%T", typ) == "*dnsmessage."+strings.TrimPrefix(q.Questions[0].Type.String(), "Type")+"Resource" {
				fitting = append(fitting, r)
			}
		}
		if !known {
			return [][]byte{answered(q, dnsmessage.RCodeNameError)}
		}
		return [][]byte{answered(q, dnsmessage.RCodeSuccess, fitting...)}
	}
}

// patience is how long a test waits for what must come; nothing waits longer than
// it has to.
const patience = time.Minute

// newResolver waits for answers as long as a busy machine takes.
func newResolver(t *testing.T, servers ...*dnsServer) *Resolver {
	t.Helper()
	c := ResolverConfig{Sockets: &loopback{}}
	for _, s := range servers {
		c.Servers = append(c.Servers, s.addr)
	}
	r := NewResolver(c)
	r.lookupTimeout, r.attemptTimeout, r.otherFamilyDelay = 4*patience, patience, patience
	t.Cleanup(r.Close)
	return r
}

var www = names.MustParse("www.example.com")

func lookup(t *testing.T, r *Resolver, n names.Name) string {
	t.Helper()
	addrs, err := r.Lookup(t.Context(), n, nil)
	if err != nil {
		var e *refusal.Error
		if !errors.As(err, &e) {
			t.Fatalf("%v is no *Error", err)
		}
		return string(e.Reason)
	}
	return fmt.Sprint(addrs)
}

func TestBothFamiliesAreAsked(t *testing.T) {
	s := serveDNS(t, zone("www.example.com. 60 93.184.216.34", "www.example.com. 60 2606:2800:21f::1"))
	r := newResolver(t, s)
	got := lookup(t, r, www)
	if !strings.Contains(got, "93.184.216.34") || !strings.Contains(got, "2606:2800:21f::1") {
		t.Errorf("%v", got)
	}
	lookup(t, r, www)
	if n := s.asked.Load(); n != 2 {
		t.Errorf("%d questions, want 2: the second lookup comes from memory", n)
	}
	if got := r.Stats(); got.Hits != 1 || got.Lookups != 1 || got.Failures != 0 || got.Names != 1 {
		t.Errorf("%+v", got)
	}
}

func TestWhatAnAnswerMaySay(t *testing.T) {
	chain := func(n int) (records []string) {
		for i := range n {
			records = append(records, fmt.Sprintf("%s 60 CNAME c%d.example.net.", owner(i), i+1))
		}
		return append(records, owner(n)+" 60 8.8.4.4")
	}
	many := func(n int) (records []string) {
		for i := range n {
			records = append(records, fmt.Sprintf("www.example.com. 60 8.8.%d.%d", i/256, i%256))
		}
		return records
	}
	for _, c := range []struct {
		name    string
		records []string
		want    string
	}{
		{"an address", []string{"www.example.com. 60 8.8.4.4"}, "[8.8.4.4]"},
		{"an alias", []string{"www.example.com. 60 CNAME edge.example.net.", "edge.example.net. 60 8.8.4.4"}, "[8.8.4.4]"},
		{"an alias in another case and order", []string{"EDGE.example.net. 60 8.8.4.4", "WWW.example.com. 60 CNAME eDGe.example.net."}, "[8.8.4.4]"},
		{"an alias with an underscore", []string{"www.example.com. 60 CNAME _x.example.net.", "_x.example.net. 60 8.8.4.4"}, "[8.8.4.4]"},
		{"15 aliases", chain(15), "[8.8.4.4]"},
		{"too many aliases", chain(16), "resolve-failed"},
		{"aliases in a circle", []string{"www.example.com. 60 CNAME a.example.net.", "a.example.net. 60 CNAME www.example.com."}, "resolve-failed"},
		{"extra records of other names", []string{"www.example.com. 60 8.8.4.4", "bank.example.org. 60 6.6.6.6", "example.com. 60 6.6.6.6"}, "[8.8.4.4]"},
		{"only records of other names", []string{"bank.example.org. 60 6.6.6.6"}, "no-address"},
		{"64 addresses of 300", many(300), fmt.Sprint(addressesOf(64))},
		{"no records", nil, "no-address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serveDNS(t, func(q dnsmessage.Message, tcp bool) [][]byte {
				if q.Questions[0].Type == dnsmessage.TypeAAAA {
					return [][]byte{answered(q, dnsmessage.RCodeSuccess)}
				}
				m := answered(q, dnsmessage.RCodeSuccess, c.records...)
				if len(m) > udpSize && !tcp {
					q.Truncated = true
					m = answered(q, dnsmessage.RCodeSuccess)
				}
				return [][]byte{m}
			})
			r := newResolver(t, s)
			if got := lookup(t, r, www); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
			// What came along for another name was not believed.
			if _, known := r.cache.get(names.MustParse("bank.example.org"), time.Now()); known {
				t.Error("a record that nobody asked for was remembered")
			}
		})
	}
}

func owner(i int) string {
	if i == 0 {
		return "www.example.com."
	}
	return fmt.Sprintf("c%d.example.net.", i)
}

func addressesOf(n int) (addrs []netip.Addr) {
	for i := range n {
		addrs = append(addrs, netip.AddrFrom4([4]byte{8, 8, byte(i >> 8), byte(i)}))
	}
	return addrs
}

func TestAnAliasWithoutItsEndIsAskedOn(t *testing.T) {
	s := serveDNS(t, zone("www.example.com. 60 CNAME edge.example.net.", "edge.example.net. 60 8.8.4.4", "edge.example.net. 60 2001:4860::1"))
	if got := lookup(t, newResolver(t, s), www); !strings.Contains(got, "8.8.4.4") {
		t.Errorf("%v", got)
	}
}

func TestServersInTrouble(t *testing.T) {
	good := zone("www.example.com. 60 8.8.4.4", "www.example.com. 60 2001:4860::1")
	broken := func(rcode dnsmessage.RCode) func(dnsmessage.Message, bool) [][]byte {
		return func(q dnsmessage.Message, _ bool) [][]byte { return [][]byte{answered(q, rcode)} }
	}
	mangled := func(change func(m []byte) []byte) func(dnsmessage.Message, bool) [][]byte {
		return func(q dnsmessage.Message, tcp bool) [][]byte {
			if tcp {
				return good(q, tcp)
			}
			return [][]byte{change(good(q, tcp)[0])}
		}
	}
	for _, c := range []struct {
		name    string
		servers []func(dnsmessage.Message, bool) [][]byte
		want    string // part of
	}{
		{"one fails, the next knows", []func(dnsmessage.Message, bool) [][]byte{broken(dnsmessage.RCodeServerFailure), good}, "8.8.4.4"},
		{"one refuses, the next knows", []func(dnsmessage.Message, bool) [][]byte{broken(dnsmessage.RCodeRefused), good}, "8.8.4.4"},
		{"all fail", []func(dnsmessage.Message, bool) [][]byte{broken(dnsmessage.RCodeServerFailure)}, "resolve-failed"},
		{"NXDOMAIN is final", []func(dnsmessage.Message, bool) [][]byte{broken(dnsmessage.RCodeNameError), good}, "no-such-name"},
		{"no EDNS", []func(dnsmessage.Message, bool) [][]byte{func(q dnsmessage.Message, tcp bool) [][]byte {
			if len(q.Additionals) > 0 {
				m := answered(q, dnsmessage.RCodeFormatError)
				return [][]byte{append(m[:4:4], 0, 0, 0, 0, 0, 0, 0, 0)}
			}
			return good(q, tcp)
		}}, "8.8.4.4"},
		{"lower case by UDP, so it is asked by TCP", []func(dnsmessage.Message, bool) [][]byte{mangled(lowerQuestion)}, "8.8.4.4"},
		{"lower case even by TCP", []func(dnsmessage.Message, bool) [][]byte{func(q dnsmessage.Message, tcp bool) [][]byte {
			return [][]byte{lowerQuestion(good(q, tcp)[0])}
		}}, "8.8.4.4"},
		{"truncated", []func(dnsmessage.Message, bool) [][]byte{mangled(func(m []byte) []byte { m[2] |= 2; return m[:40] })}, "8.8.4.4"},
		{"truncated even by TCP", []func(dnsmessage.Message, bool) [][]byte{func(q dnsmessage.Message, tcp bool) [][]byte {
			m := good(q, tcp)[0]
			m[2] |= 2
			return [][]byte{m}
		}}, "resolve-failed"},
		{"a flood of wrong ids, then TCP", []func(dnsmessage.Message, bool) [][]byte{func(q dnsmessage.Message, tcp bool) [][]byte {
			if tcp {
				return good(q, tcp)
			}
			guess := answered(q, dnsmessage.RCodeSuccess, "www.example.com. 60 6.6.6.6")
			guess[0] ^= 0xff
			return repeated(guess, maxStrangers)
		}}, "8.8.4.4"},
		{"wrong answers before the right one", []func(dnsmessage.Message, bool) [][]byte{func(q dnsmessage.Message, tcp bool) [][]byte {
			id := answered(q, dnsmessage.RCodeSuccess, "www.example.com. 60 6.6.6.6")
			id[1]++
			other := q
			other.Questions = []dnsmessage.Question{{Name: dnsmessage.MustNewName("bank.example.org."), Type: q.Questions[0].Type, Class: 1}}
			typ := q
			typ.Questions = []dnsmessage.Question{{Name: q.Questions[0].Name, Type: dnsmessage.TypeTXT, Class: 1}}
			question := answered(q, dnsmessage.RCodeSuccess)
			question[2] &^= 0x80
			return [][]byte{{}, {1}, id, answered(other, 0, "www.example.com. 60 6.6.6.6"), answered(typ, 0, "www.example.com. 60 6.6.6.6"), question, good(q, tcp)[0]}
		}}, "8.8.4.4"},
		{"records cut short", []func(dnsmessage.Message, bool) [][]byte{func(q dnsmessage.Message, tcp bool) [][]byte {
			m := good(q, tcp)[0]
			return [][]byte{m[:len(m)-2]}
		}}, "resolve-failed"},
		{"only one family fails", []func(dnsmessage.Message, bool) [][]byte{func(q dnsmessage.Message, tcp bool) [][]byte {
			if q.Questions[0].Type == dnsmessage.TypeAAAA {
				return [][]byte{answered(q, dnsmessage.RCodeServerFailure)}
			}
			return good(q, tcp)
		}}, "8.8.4.4"},
		{"NXDOMAIN for one family only", []func(dnsmessage.Message, bool) [][]byte{func(q dnsmessage.Message, tcp bool) [][]byte {
			if q.Questions[0].Type == dnsmessage.TypeAAAA {
				return [][]byte{answered(q, dnsmessage.RCodeNameError)}
			}
			return good(q, tcp)
		}}, "8.8.4.4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var servers []*dnsServer
			for _, answer := range c.servers {
				servers = append(servers, serveDNS(t, answer))
			}
			if got := lookup(t, newResolver(t, servers...), www); !strings.Contains(got, c.want) || strings.Contains(got, "6.6.6.6") {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

func repeated(m []byte, n int) (all [][]byte) {
	for range n {
		all = append(all, m)
	}
	return all
}

func lowerQuestion(m []byte) []byte {
	copy(m[12:], strings.ToLower(string(m[12:12+17])))
	return m
}

// A family whose server says nothing costs OtherFamilyDelay, not a timeout.
func TestOneSilentFamilyIsNotWaitedFor(t *testing.T) {
	s := serveDNS(t, func(q dnsmessage.Message, tcp bool) [][]byte {
		if q.Questions[0].Type == dnsmessage.TypeAAAA {
			return nil
		}
		return [][]byte{answered(q, dnsmessage.RCodeSuccess, "www.example.com. 60 8.8.4.4")}
	})
	r := newResolver(t, s)
	r.otherFamilyDelay = OtherFamilyDelay
	if got := lookup(t, r, www); got != "[8.8.4.4]" {
		t.Errorf("%v", got)
	}
}

func TestAnswersAreKeptAsLongAsTheySay(t *testing.T) {
	for _, c := range []struct {
		name  string
		reply func(q dnsmessage.Message) []byte
		keeps time.Duration
	}{
		{"a TTL", func(q dnsmessage.Message) []byte { return answered(q, 0, "www.example.com. 30 8.8.4.4") }, 30 * time.Second},
		{"no TTL", func(q dnsmessage.Message) []byte { return answered(q, 0, "www.example.com. 0 8.8.4.4") }, MinTTL},
		{"a long TTL", func(q dnsmessage.Message) []byte { return answered(q, 0, "www.example.com. 4000000000 8.8.4.4") }, MaxTTL},
		{"the alias's TTL", func(q dnsmessage.Message) []byte {
			return answered(q, 0, "www.example.com. 7 CNAME a.example.com.", "a.example.com. 30 8.8.4.4")
		}, 7 * time.Second},
		{"NXDOMAIN", func(q dnsmessage.Message) []byte { return withSOA(q, dnsmessage.RCodeNameError, 20) }, 20 * time.Second},
		{"NXDOMAIN for long", func(q dnsmessage.Message) []byte { return withSOA(q, dnsmessage.RCodeNameError, 86400) }, MaxNegativeTTL},
		{"NXDOMAIN without SOA", func(q dnsmessage.Message) []byte { return answered(q, dnsmessage.RCodeNameError) }, MinTTL},
		{"no data", func(q dnsmessage.Message) []byte { return withSOA(q, 0, 20) }, 20 * time.Second},
		{"no data of a zone whose mailbox has a dot", func(q dnsmessage.Message) []byte { return withDottedMailbox(q, 20) }, 20 * time.Second},
		{"a failure", func(q dnsmessage.Message) []byte { return answered(q, dnsmessage.RCodeServerFailure) }, MinTTL},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serveDNS(t, func(q dnsmessage.Message, _ bool) [][]byte {
				if m := c.reply(q); q.Questions[0].Type == dnsmessage.TypeA || m[3]&15 != 0 || len(q.Answers) == 0 && m[9] > 0 {
					return [][]byte{m}
				}
				return [][]byte{withSOA(q, 0, 86400)}
			})
			now := time.Now()
			r := newResolver(t, s)
			r.now = func() time.Time { return now }
			first := lookup(t, r, www)
			asked := s.asked.Load()
			now = now.Add(c.keeps - time.Millisecond)
			if again := lookup(t, r, www); again != first || s.asked.Load() != asked {
				t.Errorf("asked again after %v", c.keeps-time.Millisecond)
			}
			now = now.Add(time.Millisecond)
			if lookup(t, r, www); s.asked.Load() == asked {
				t.Errorf("not asked again after %v", c.keeps)
			}
		})
	}
}

func TestManyWhoWantOneNameAskOnce(t *testing.T) {
	release := make(chan struct{})
	answer := zone("www.example.com. 60 8.8.4.4")
	s := serveDNS(t, func(q dnsmessage.Message, tcp bool) [][]byte { <-release; return answer(q, tcp) })
	r := newResolver(t, s)
	gaveUp, giveUp := context.WithCancel(t.Context())
	giveUp()
	if _, err := r.Lookup(gaveUp, www, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("whoever gives up gets %v", err)
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if got := lookup(t, r, www); got != "[8.8.4.4]" {
				t.Errorf("%v", got)
			}
		})
	}
	close(release)
	all.Wait()
	if n := s.asked.Load(); n != 2 {
		t.Errorf("%d questions, want 2", n)
	}
}

func TestARememberedNameCostsNoAllocation(t *testing.T) {
	r := newResolver(t, serveDNS(t, zone("www.example.com. 60 8.8.4.4")))
	lookup(t, r, www)
	if n := testing.AllocsPerRun(100, func() { r.Lookup(t.Context(), www, nil) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestNewNamesComeAtALimitedRate(t *testing.T) {
	s := serveDNS(t, zone("www.example.com. 60 8.8.4.4"))
	r := newResolver(t, s)
	limit := NewLimit(0, 1)
	for i, want := range []refusal.Reason{"", "", refusal.TooManyNames} {
		n := www
		if i == 2 {
			n = names.MustParse("other.example.com")
		}
		_, err := r.Lookup(t.Context(), n, limit)
		var e *refusal.Error
		errors.As(err, &e)
		if want == "" && err != nil || want != "" && (e == nil || e.Reason != want || e.Reason.Status() != 503) {
			t.Errorf("%s: %v, want %q", n, err, want)
		}
	}
}

// waitFor waits until a condition holds.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func TestLookupsAndMemoryAreBounded(t *testing.T) {
	if got := []int{LookupsOf(1 << 20), LookupsOf(1024), LookupsOf(4)}; !slices.Equal(got, []int{MaxLookups, 128, 1}) {
		t.Errorf("%v look-ups", got)
	}
	silent := serveDNS(t, func(dnsmessage.Message, bool) [][]byte { return nil })
	r := NewResolver(ResolverConfig{Sockets: &loopback{}, Servers: []netip.AddrPort{silent.addr}, Lookups: 8})
	r.lookupTimeout, r.attemptTimeout = 4*patience, patience
	t.Cleanup(r.Close)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // begins a lookup, and does not wait for it
	at := func(i int) names.Name { return names.MustParse(fmt.Sprintf("n%d.example.com", i)) }
	const lookups = 8
	for i := range share.MaxWaiting + lookups {
		if _, err := r.Lookup(ctx, at(i), nil); errors.Is(err, errBusy) {
			if i < share.MaxWaiting {
				t.Fatalf("lookup %d does not wait: %v", i, err)
			}
			break
		} else if i == share.MaxWaiting+lookups-1 {
			t.Error("as many as are asked for wait")
		}
	}
	if used := r.stock.Used(); used == 0 || used > 8 {
		t.Errorf("%d look-ups at once", used)
	}

	c := newCache[names.Name, found](3)
	now := time.Now()
	for i := range 3 {
		c.put(at(i), found{}, now.Add(time.Hour))
	}
	c.get(at(0), now)
	c.put(at(1), found{}, now.Add(time.Minute))
	c.put(at(3), found{}, now.Add(time.Hour))
	for i, want := range []bool{true, true, false, true} {
		if _, known := c.get(at(i), now); known != want {
			t.Errorf("n%d is known: %v, want %v", i, known, want)
		}
	}
	if c.get(at(1), now.Add(time.Minute)); len(c.entries) != 2 || c.recent.Len() != 2 {
		t.Errorf("%d entries, %d in the list, want 2", len(c.entries), c.recent.Len())
	}
}

func TestCloseEndsLookups(t *testing.T) {
	silent := serveDNS(t, func(dnsmessage.Message, bool) [][]byte { return nil })
	r := newResolver(t, silent)
	done := make(chan string, 1)
	go func() { done <- lookup(t, r, www) }()
	for silent.asked.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	r.Close()
	if got := <-done; got != "resolve-failed" {
		t.Errorf("%s", got)
	}
	if got := lookup(t, r, names.MustParse("other.example.com")); got != "resolve-failed" {
		t.Errorf("after Close: %s", got)
	}
}

// A wildcard lets a workload choose names, also of servers that never answer: its own
// names that a rule spells out are resolved all the same, and so are those of others.
func TestALookupDoesNotWaitForWhatOthersAskASilentZone(t *testing.T) {
	answer := zone("www.example.com. 60 8.8.4.4", "own.example.com. 60 8.8.4.5", "late.example.com. 60 8.8.4.6")
	s := serveDNS(t, func(q dnsmessage.Message, tcp bool) [][]byte {
		if strings.Contains(strings.ToLower(q.Questions[0].Name.String()), ".silent.") {
			return nil
		}
		return answer(q, tcp)
	})
	r := NewResolver(ResolverConfig{Sockets: &loopback{}, Servers: []netip.AddrPort{s.addr}, Lookups: 64})
	r.lookupTimeout, r.attemptTimeout, r.otherFamilyDelay = 4*patience, patience, patience
	t.Cleanup(r.Close)
	one, two, third := r.Join(), r.Join(), r.Join()
	wildcard := NewLimit(float64(rate.Inf), 1)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 500 {
		for name, by := range map[string]*Share{"one": one, "two": two} {
			r.begin(gone, names.MustParse(fmt.Sprintf("n%d.%s.silent.example.com", i, name)), by, wildcard)
		}
	}
	look := func(by *Share, name string, limit *Limit) {
		t.Helper()
		if addrs, _, err := r.begin(t.Context(), names.MustParse(name), by, limit); err != nil || len(addrs) != 1 {
			t.Errorf("%s: %v, %v", name, addrs, err)
		}
	}
	look(third, "www.example.com", nil)
	look(one, "own.example.com", nil)
	look(third, "late.example.com", wildcard)
	third.Leave()
	r.Close()
	if used := r.stock.Used(); len(r.flights) != 0 || used != 0 {
		t.Errorf("after the end %d lookups, %d taken", len(r.flights), used)
	}
}

// What a workload has in its queue for names of its choice holds up neither its own names
// that a rule spells out nor those of others, not even where the name is the same.
func TestALookupDoesNotWaitForTheTurnOfAnothersForTheSameName(t *testing.T) {
	answer := zone("www.example.com. 60 8.8.4.4")
	s := serveDNS(t, func(q dnsmessage.Message, tcp bool) [][]byte {
		if strings.Contains(strings.ToLower(q.Questions[0].Name.String()), ".silent.") {
			return nil
		}
		return answer(q, tcp)
	})
	r := NewResolver(ResolverConfig{Sockets: &loopback{}, Servers: []netip.AddrPort{s.addr}, Lookups: 64})
	r.lookupTimeout, r.attemptTimeout, r.otherFamilyDelay = 4*patience, patience, patience
	t.Cleanup(r.Close)
	flooding, other := r.Join(), r.Join()
	wildcard := NewLimit(float64(rate.Inf), 1)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 500 {
		r.begin(gone, names.MustParse(fmt.Sprintf("n%d.silent.example.com", i)), flooding, wildcard)
	}
	r.begin(gone, www, flooding, wildcard) // it waits behind them
	limited, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if addrs, _, err := r.begin(limited, www, other, nil); err != nil || len(addrs) != 1 {
		t.Errorf("%v, %v", addrs, err)
	}
}

// piped is Sockets whose servers are functions, for tests on a fake clock.
type piped struct {
	loopback
	answer func(dnsmessage.Message, bool) [][]byte
}

func (p *piped) DialUDP(context.Context, netip.AddrPort) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go func() {
		defer theirs.Close()
		in := make([]byte, udpSize)
		n, err := theirs.Read(in)
		var q dnsmessage.Message
		if err != nil || q.Unpack(in[:n]) != nil {
			return
		}
		for _, out := range p.answer(q, false) {
			theirs.Write(out)
		}
		theirs.Read(in) // until the other end closes
	}()
	return ours, nil
}

func TestAFamilyThatNobodyAnswersForHoldsItsLookupUpBriefly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := zone("www.example.com. 60 8.8.4.4")
		sockets := &piped{answer: func(q dnsmessage.Message, tcp bool) [][]byte {
			if q.Questions[0].Type == dnsmessage.TypeAAAA {
				return nil
			}
			return answer(q, tcp)
		}}
		servers := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:53"), netip.MustParseAddrPort("10.0.0.2:53"), netip.MustParseAddrPort("10.0.0.3:53")}
		r := NewResolver(ResolverConfig{Sockets: sockets, Servers: servers})
		defer r.Close()
		start := time.Now()
		addrs, late, err := r.begin(t.Context(), www, nil, nil)
		if took := time.Since(start); err != nil || late == nil || len(addrs) != 1 || took != OtherFamilyDelay {
			t.Fatalf("%v, %v after %v", addrs, err, took)
		}
		<-late.done
		if took, want := time.Since(start), OtherFamilyDelay+AttemptTimeout*restAttempts/2; took != want {
			t.Errorf("the look-up ended after %v, want %v", took, want)
		}
		if addrs, err := late.found.outcome(); err != nil || len(addrs) != 1 {
			t.Errorf("in the end %v, %v", addrs, err)
		}
	})
}

func TestALookupThatHadNoTurnIsNotRemembered(t *testing.T) {
	hold := make(chan struct{})
	answer := zone("www.example.com. 60 8.8.4.4", "slow.example.com. 60 8.8.4.5")
	s := serveDNS(t, func(q dnsmessage.Message, tcp bool) [][]byte {
		if strings.HasPrefix(strings.ToLower(q.Questions[0].Name.String()), "slow") {
			<-hold
		}
		return answer(q, tcp)
	})
	r := NewResolver(ResolverConfig{Sockets: &loopback{}, Servers: []netip.AddrPort{s.addr}, Lookups: 1})
	r.lookupTimeout, r.attemptTimeout = 4*patience, patience
	t.Cleanup(r.Close)
	ended := make(chan string)
	go func() { ended <- lookup(t, r, names.MustParse("slow.example.com")) }()
	waitFor(t, "the first look-up has its turn", func() bool { return s.asked.Load() > 0 })
	r.mu.Lock()
	r.lookupTimeout = time.Nanosecond
	r.mu.Unlock()
	if _, err := r.Lookup(t.Context(), www, nil); !errors.Is(err, errBusy) {
		t.Errorf("a look-up that had no turn: %v", err)
	}
	r.mu.Lock()
	r.lookupTimeout = 4 * patience
	r.mu.Unlock()
	close(hold)
	if got := <-ended; got != "[8.8.4.5]" {
		t.Errorf("the first: %s", got)
	}
	if got := lookup(t, r, www); got != "[8.8.4.4]" {
		t.Errorf("the next: %s", got)
	}
}

func TestASilentServerIsAskedLastForAWhile(t *testing.T) {
	one, two, three := netip.MustParseAddrPort("10.0.0.1:53"), netip.MustParseAddrPort("10.0.0.2:53"), netip.MustParseAddrPort("10.0.0.3:53")
	servers := []netip.AddrPort{one, two, three}
	var h health
	now := time.Now()
	check := func(what string, want ...netip.AddrPort) {
		t.Helper()
		if got := h.order(servers, now); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	check("nothing is known", one, two, three)
	h.note(one, true, now)
	check("the first is silent", two, three, one)
	h.note(two, true, now)
	check("two are", three, one, two)
	h.note(one, false, now)
	check("the first answers again", one, three, two)
	now = now.Add(SilentFor)
	check("later", one, two, three)
	for i := range 3 * maxSilent {
		h.note(netip.AddrPortFrom(one.Addr(), uint16(i)), true, now)
		if len(h.silent) > maxSilent {
			t.Fatalf("%d servers are remembered", len(h.silent))
		}
	}
}

func TestAServerThatIsNotThereCostsOneLookupTheWait(t *testing.T) {
	silent := serveDNS(t, func(dnsmessage.Message, bool) [][]byte { return nil })
	good := serveDNS(t, zone("www.example.com. 60 8.8.4.4", "other.example.com. 60 8.8.8.8"))
	r := newResolver(t, silent, good)
	r.attemptTimeout = 50 * time.Millisecond
	eventually(t, "www.example.com is found", func() bool { r.now = later(r.now); return strings.Contains(lookup(t, r, www), "8.8.4.4") })
	asked := silent.asked.Load()
	if asked == 0 {
		t.Error("the first server was not asked")
	}
	r.attemptTimeout = patience
	if got := lookup(t, r, names.MustParse("other.example.com")); got != "[8.8.8.8]" || silent.asked.Load() != asked {
		t.Errorf("%s, %d more questions to the silent server", got, silent.asked.Load()-asked)
	}
}

// later is a clock that has left behind what was remembered of a failure.
func later(now func() time.Time) func() time.Time {
	return func() time.Time { return now().Add(MinTTL) }
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestServersComeFromResolvConf(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"nameserver 10.0.0.1\nnameserver 2001:4860:4860::8888\n", "[10.0.0.1:53 [2001:4860:4860::8888]:53]"},
		{"# nameserver 1.1.1.1\nsearch a b\noptions ndots:5\n\tnameserver\t10.0.0.1 # ours", "[10.0.0.1:53]"},
		{"nameserver fe80::1%eth0\nnameserver bad\nnameserver\n", "[[fe80::1%eth0]:53]"},
		{"nameserver 1.0.0.1\nnameserver 1.0.0.2\nnameserver 1.0.0.3\nnameserver 1.0.0.4\n", "[1.0.0.1:53 1.0.0.2:53 1.0.0.3:53]"},
		{"", "[127.0.0.1:53]"},
	} {
		if got := fmt.Sprint(parseResolvConf([]byte(c.text))); got != c.want {
			t.Errorf("%q: %s, want %s", c.text, got, c.want)
		}
	}
}

func TestResolvConfIsReadAgainWhenItChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	now := time.Now()
	conf := &resolvConf{path: path, now: func() time.Time { return now }}
	check := func(want string) {
		t.Helper()
		servers, err := conf.list()
		if got := fmt.Sprint(servers); err != nil || got != want {
			t.Errorf("%s %v, want %s", got, err, want)
		}
	}
	check("[127.0.0.1:53]") // no file
	must(t, os.WriteFile(path, []byte("nameserver 1.0.0.1\n"), 0o644))
	check("[127.0.0.1:53]") // believed for a while
	now = now.Add(recheckAfter)
	check("[1.0.0.1:53]")
	now = now.Add(recheckAfter)
	check("[1.0.0.1:53]")
	must(t, os.WriteFile(path+".new", []byte("nameserver 1.0.0.2\n"), 0o644))
	must(t, os.Rename(path+".new", path))
	now = now.Add(recheckAfter)
	check("[1.0.0.2:53]")

	bad := &resolvConf{path: t.TempDir(), now: time.Now}
	if _, err := bad.list(); err == nil {
		t.Error("a folder was read as resolv.conf")
	}
}

func FuzzParseReply(f *testing.F) {
	r, err := newRequest("www.example.com.", dnsmessage.TypeA, true)
	must(f, err)
	var q dnsmessage.Message
	must(f, q.Unpack(r.bytes))
	for _, m := range [][]byte{
		answered(q, 0, "www.example.com. 60 8.8.4.4", "www.example.com. 60 2001:4860::1"),
		answered(q, 0, "www.example.com. 60 CNAME a.example.com.", "a.example.com. 60 8.8.4.4"),
		answered(q, 0, "www.example.com. 60 SRV 1 2 443 a.example.com."), answered(q, 0, "www.example.com. 60 TXT a b"),
		answered(q, dnsmessage.RCodeNameError), withSOA(q, 0, 20), r.bytes, {},
		[]byte("00\x84\x01\x00\x00\x01\x00\x00\x00\x00\x00"),
	} {
		f.Add(m)
	}
	question := r.bytes[12 : 12+int(r.name.Length)+1+4]
	f.Fuzz(func(t *testing.T, m []byte) {
		// The id and, beside whatever follows, the question are what was asked, or
		// nothing would be read of most messages.
		if len(m) >= 12 {
			m = slices.Clone(m)
			m[0], m[1] = byte(r.id>>8), byte(r.id)
			copy(m[12:], question)
		}
		out, err := parseReply(m, r)
		if err != nil {
			return
		}
		for _, typ := range []dnsmessage.Type{dnsmessage.TypeSRV, dnsmessage.TypeTXT} {
			if len(m) < 12+len(question) { // what refuses need not repeat what was asked
				break
			}
			ttl, of := uint32(300), r
			of.typ = typ
			copy(m[12+len(question)-4:], []byte{byte(typ >> 8), byte(typ)})
			if records, err := parseReply(m, of); err == nil {
				if kept, _ := records.recordsOf("www.example.com.", &ttl); len(kept.Services) > MaxServices || len(kept.Texts) > MaxTexts {
					t.Fatalf("%d services, %d texts", len(kept.Services), len(kept.Texts))
				}
			}
		}
		end, links, addrs, _ := out.follow("www.example.com.", dnsmessage.TypeA, 300)
		if links > maxLinks || len(addrs) > MaxAddresses || end == "" {
			t.Fatalf("%d links, %d addresses, end %q", links, len(addrs), end)
		}
	})
}

func BenchmarkRememberedName(b *testing.B) {
	r := NewResolver(ResolverConfig{Sockets: &loopback{}})
	defer r.Close()
	r.cache.put(www, found{addrs: []netip.Addr{netip.MustParseAddr("8.8.4.4")}}, time.Now().Add(time.Hour))
	b.ReportAllocs()
	for b.Loop() {
		r.Lookup(context.Background(), www, nil)
	}
}

func TestANameHasOnlyIPv4WhereTheAnswerSaysSoAndForAsLongAsItHolds(t *testing.T) {
	v4, v6 := "www.example.com. 30 8.8.4.4", "www.example.com. 30 2001:4860::1"
	for _, c := range []struct {
		name   string
		answer func(q dnsmessage.Message, tcp bool) [][]byte
		want   bool
	}{
		{"IPv4 alone", zone(v4), true},
		{"both", zone(v4, v6), false},
		{"IPv6 alone", zone(v6), false},
		{"nothing", zone(), false},
		{"an AAAA that fails", func(q dnsmessage.Message, tcp bool) [][]byte {
			if q.Questions[0].Type == dnsmessage.TypeAAAA {
				return [][]byte{answered(q, dnsmessage.RCodeServerFailure)}
			}
			return zone(v4)(q, tcp)
		}, false},
		{"an AAAA of a name that does not exist, it says", func(q dnsmessage.Message, tcp bool) [][]byte {
			if q.Questions[0].Type == dnsmessage.TypeAAAA {
				return [][]byte{answered(q, dnsmessage.RCodeNameError)}
			}
			return zone(v4)(q, tcp)
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newResolver(t, serveDNS(t, c.answer))
			now := time.Now()
			r.now = func() time.Time { return now }
			if r.OnlyV4(www) {
				t.Error("known before it was asked for")
			}
			if lookup(t, r, www); r.OnlyV4(www) != c.want {
				t.Errorf("IPv4 alone: %v, want %v", !c.want, c.want)
			}
			if now = now.Add(30 * time.Second); r.OnlyV4(www) {
				t.Error("known for longer than the answer holds")
			}
		})
	}
}
