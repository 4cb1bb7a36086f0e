package dnsserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"sluice.dev/sluice/internal/names"
)

// ours is an Upstream that keeps what it was asked.
type ours struct {
	allowed []string // names, and "." with what is behind for all below
	exist   []string
	records map[string]Records
	err     error
	wait    chan struct{} // what is asked waits for its end; nil: for nothing

	mu    sync.Mutex
	asked []string
}

func (u *ours) Allows(n names.Name) bool {
	for _, a := range u.allowed {
		if n.String() == a || strings.HasPrefix(a, ".") && strings.HasSuffix(n.String(), a) {
			return true
		}
	}
	return false
}

func (u *ours) note(what string) {
	u.mu.Lock()
	u.asked = append(u.asked, what)
	u.mu.Unlock()
	if u.wait != nil {
		<-u.wait
	}
}

func (u *ours) Exists(ctx context.Context, n names.Name) bool {
	if u.wait != nil {
		select {
		case <-u.wait:
		case <-ctx.Done():
			return false
		}
	}
	u.note(n.String())
	for _, e := range u.exist {
		if n.String() == e {
			return true
		}
	}
	return false
}

func (u *ours) Records(_ context.Context, name string, host names.Name, typ dnsmessage.Type) (Records, error) {
	u.note(name + " at " + host.String() + " " + typ.String())
	r, ok := u.records[name]
	if !ok && u.err == nil {
		return r, ErrNoSuchName
	}
	return r, u.err
}

func services(hosts ...string) (list []Service) {
	for i, host := range hosts {
		list = append(list, Service{Priority: uint16(i), Weight: 5, Port: 27017, Host: names.MustParse(host)})
	}
	return list
}

// readLongReply is readReply for what need not fit UDP.
func readLongReply(t *testing.T, c net.Conn) (m dnsmessage.Message) {
	t.Helper()
	var length [2]byte
	_, err := io.ReadFull(c, length[:])
	must(t, err)
	reply := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err = io.ReadFull(c, reply)
	must(t, errors.Join(err, m.Unpack(reply)))
	return m
}

// askWithin asks with an OPT record that takes so many bytes over UDP.
func askWithin(t *testing.T, s *Server, name string, typ dnsmessage.Type, size int) []byte {
	t.Helper()
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 7})
	var h dnsmessage.ResourceHeader
	must(t, errors.Join(b.StartQuestions(), b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET}),
		b.StartAdditionals(), h.SetEDNS0(size, 0, false), b.OPTResource(h, dnsmessage.OPTResource{})))
	m, err := b.Finish()
	must(t, err)
	return s.Answer(m, nil)
}

func TestSRVOfAHostThatARuleAllowsIsWhatOurOwnDNSHas(t *testing.T) {
	s, u := newServer(t), &ours{allowed: []string{"cluster0.example.net"}, records: map[string]Records{
		"_mongodb._tcp.cluster0.example.net": {Services: services("a.example.net", "b.example.net"), TTL: 30},
		"cluster0.example.net":               {Texts: [][]byte{[]byte("\x10authSource=admin")}, TTL: 30},
		"_empty._tcp.cluster0.example.net":   {},
	}}
	s.upstream = u
	m := ask(t, s, "_MongoDB._tcp.Cluster0.example.net.", dnsmessage.TypeSRV)
	if len(m.Answers) != 2 || m.RCode != 0 || m.Truncated {
		t.Fatalf("the answer is %+v", m)
	}
	for i, host := range []string{"a.example.net.", "b.example.net."} {
		srv := m.Answers[i].Body.(*dnsmessage.SRVResource)
		if srv.Target.String() != host || int(srv.Priority) != i || srv.Weight != 5 || srv.Port != 27017 || m.Answers[i].Header.TTL != 30 || m.Answers[i].Header.Name.String() != "_MongoDB._tcp.Cluster0.example.net." {
			t.Errorf("record %d is %+v", i, m.Answers[i])
		}
	}
	if text := ask(t, s, "cluster0.example.net.", dnsmessage.TypeTXT); len(text.Answers) != 1 || text.Answers[0].Body.(*dnsmessage.TXTResource).TXT[0] != "authSource=admin" {
		t.Errorf("TXT: %+v", text)
	}
	if m := ask(t, s, "_no._tcp.cluster0.example.net.", dnsmessage.TypeSRV); m.RCode != dnsmessage.RCodeNameError {
		t.Errorf("a name that does not exist: %v", m.RCode)
	}
	if m := ask(t, s, "_empty._tcp.cluster0.example.net.", dnsmessage.TypeSRV); m.RCode != 0 || len(m.Answers) != 0 {
		t.Errorf("a name without such records: %+v", m)
	}
	if of := s.TargetOf(names.MustParse("b.example.net")); of != "_mongodb._tcp.cluster0.example.net" {
		t.Errorf("b.example.net is a target of %q", of)
	}
	if s.TargetOf(names.MustParse("c.example.net")) != "" {
		t.Error("a host that no answer named is a target")
	}
	u.err = errors.New("DNS gave no answer")
	m = ask(t, s, "_mongodb._tcp.cluster0.example.net.", dnsmessage.TypeSRV)
	if _, text := extended(t, m); m.RCode != dnsmessage.RCodeServerFailure || text != "sluice: DNS gave no answer" {
		t.Errorf("without an answer of our own: %v %q", m.RCode, text)
	}
}

func TestNobodyIsAskedAboutAHostThatNoRuleAllows(t *testing.T) {
	s, u := newServer(t), &ours{allowed: []string{"cluster0.example.net"}}
	s.upstream = u
	for _, name := range []string{
		"_mongodb._tcp.secret-data.example.com.", "_a._tcp.localhost.", "_a._tcp.details.", "_a._tcp.details.default.svc.cluster.local.",
		"x.cluster0.example.net.", "_a._tcp.x.cluster0.example.net.", "_tcp.127.0.0.1.",
		"_secretsecretsecr._tcp.cluster0.example.net.", "_a.b._tcp.cluster0.example.net.", "_a._secret.cluster0.example.net.",
		"_a._b._tcp.cluster0.example.net.", "_._tcp.cluster0.example.net.", "_a_._tcp.cluster0.example.net.", "_tcp.cluster0.example.net.", "_dmarc.cluster0.example.net.",
	} {
		for _, typ := range []dnsmessage.Type{dnsmessage.TypeSRV, dnsmessage.TypeTXT} {
			if m := ask(t, s, name, typ); len(m.Answers) != 0 {
				t.Errorf("%s %v: %+v", name, typ, m.Answers)
			}
		}
	}
	for _, typ := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeMX, dnsmessage.TypeHTTPS, dnsmessage.TypeNS, dnsmessage.Type(99)} {
		ask(t, s, "cluster0.example.net.", typ)
	}
	if len(u.asked) != 0 {
		t.Errorf("our own DNS was asked for %q", u.asked)
	}
}

func TestRecordsThatDoNotFitAreTruncatedOverUDPAndWholeOverTCP(t *testing.T) {
	s := newServer(t)
	var hosts []string
	for i := range 20 {
		hosts = append(hosts, fmt.Sprintf("%s%02d.example.net", strings.Repeat("h", 40), i))
	}
	s.upstream = &ours{allowed: []string{"x.example.net"}, records: map[string]Records{"_a._tcp.x.example.net": {Services: services(hosts...), TTL: 1}}}
	for _, c := range []struct{ size, want int }{{512, 0}, {1232, 0}, {65535, 0}} {
		reply := askWithin(t, s, "_a._tcp.x.example.net.", dnsmessage.TypeSRV, c.size)
		if m := unpack(t, reply); !m.Truncated || len(m.Answers) != c.want || len(reply) > 512 {
			t.Errorf("%d bytes taken: %d answers, truncated %v, %d bytes", c.size, len(m.Answers), m.Truncated, len(reply))
		}
	}
	s.upstream = &ours{allowed: []string{"x.example.net"}, records: map[string]Records{"_a._tcp.x.example.net": {Services: services(hosts[:12]...), TTL: 1}}}
	for size, truncated := range map[int]bool{512: true, 1232: false, 65535: false} {
		var m dnsmessage.Message
		must(t, m.Unpack(askWithin(t, s, "_a._tcp.x.example.net.", dnsmessage.TypeSRV, size)))
		if m.Truncated != truncated || len(m.Answers) == 12 == truncated {
			t.Errorf("%d bytes taken: %d answers, truncated %v", size, len(m.Answers), m.Truncated)
		}
	}
	s.upstream = &ours{allowed: []string{"x.example.net"}, records: map[string]Records{"_a._tcp.x.example.net": {Services: services(hosts...), TTL: 1}}}
	client, done := servedOverTCP(t.Context(), s)
	go client.Write(bytes.Repeat(framed(query(t, "_a._tcp.x.example.net.", dnsmessage.TypeSRV, true)), 2))
	for range 2 {
		if m := readLongReply(t, client); m.Truncated || len(m.Answers) != 20 {
			t.Errorf("over TCP: %d answers, truncated %v", len(m.Answers), m.Truncated)
		}
	}
	client.Close()
	<-done
}

// A resolver with a search list that is not the mesh's (LOCALDOMAIN, that of a container
// or of a Pod) must not stop at a name that is none.
func TestANameUnderAForeignSearchSuffixIsNoName(t *testing.T) {
	for name, c := range map[string]struct {
		rcode dnsmessage.RCode
		asked bool // our own DNS
	}{
		"www.googleapis.com":                                 {0, false},
		"www.googleapis.com.corp.example.org":                {dnsmessage.RCodeNameError, false},
		"x.googleapis.com.corp.example.org":                  {dnsmessage.RCodeNameError, false},
		"x.googleapis.com.a.b.c.example.org":                 {dnsmessage.RCodeNameError, false},
		"details.default.svc.cluster.local.corp.example.org": {dnsmessage.RCodeNameError, false},
		"nothing.default.svc.cluster.local.corp.example.org": {dnsmessage.RCodeNameError, false},
		"www.example.com.corp.example.org":                   {0, false}, // no rule knows the front: the denial says what is missing
		"jira.corp.example.org":                              {0, false},
		"www.googleapis.com.10.corp.example.org":             {dnsmessage.RCodeNameError, false},
		"www.googleapis.com.allowed.example.net":             {dnsmessage.RCodeNameError, true},
		"www.googleapis.com.bucket.allowed.example.net":      {0, true},
		"jira.allowed.example.net":                           {0, false},
		"www.googleapis.com.googleapis.com":                  {0, false}, // this fake allows none below: Named alone
	} {
		s, u := newServer(t), &ours{allowed: []string{".allowed.example.net"}, exist: []string{"www.googleapis.com.bucket.allowed.example.net"}}
		s.upstream = u
		for _, typ := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
			m := ask(t, s, name+".", typ)
			if m.RCode != c.rcode || (m.RCode == 0) != (len(m.Answers) == 1) {
				t.Errorf("%s %v: %v with %d answers, want %v", name, typ, m.RCode, len(m.Answers), c.rcode)
			}
		}
		if (len(u.asked) > 0) != c.asked {
			t.Errorf("%s: our own DNS was asked for %q", name, u.asked)
		}
	}
}

func TestQuestionsThatWaitForOurOwnDNSAreBoundedAndHoldUpNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, u := newServer(t), &ours{allowed: []string{".allowed.example.net"}, wait: make(chan struct{}), records: map[string]Records{}}
		s.upstream = u
		var all sync.WaitGroup
		for i := range MaxWaiting {
			all.Go(func() { ask(t, s, fmt.Sprintf("_a._tcp.n%d.allowed.example.net.", i), dnsmessage.TypeSRV) })
		}
		synctest.Wait()
		m := ask(t, s, "_a._tcp.more.allowed.example.net.", dnsmessage.TypeSRV)
		if _, text := extended(t, m); m.RCode != dnsmessage.RCodeServerFailure || text != "sluice: too many questions wait for DNS" {
			t.Errorf("one more: %v %q", m.RCode, text)
		}
		told(t, ask(t, s, "www.example.com.", dnsmessage.TypeA))
		close(u.wait)
		all.Wait()
		if m := ask(t, s, "_a._tcp.more.allowed.example.net.", dnsmessage.TypeSRV); m.RCode != dnsmessage.RCodeNameError {
			t.Errorf("after them: %v", m.RCode)
		}
	})
}

func TestWhetherANameExistsIsNotWaitedForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.upstream = &ours{allowed: []string{".allowed.example.net"}, wait: make(chan struct{})}
		start := time.Now()
		m := ask(t, s, "www.googleapis.com.allowed.example.net.", dnsmessage.TypeA)
		if m.RCode != dnsmessage.RCodeNameError || time.Since(start) != ExistsTimeout {
			t.Errorf("%v after %v", m.RCode, time.Since(start))
		}
	})
}

func TestTargetsAreBounded(t *testing.T) {
	var known targets
	for i := range MaxTargets + 1 {
		known.note("x", services(fmt.Sprintf("n%d.example.com", i)))
		if len(known.asked) > MaxTargets {
			t.Fatalf("%d are kept", len(known.asked))
		}
	}
	if len(known.asked) != 1 {
		t.Errorf("%d are kept past the bound, want the last", len(known.asked))
	}
}

// What we have addresses of ourselves is asked of nobody outside, however it is spelled and
// whatever a rule allows.
func TestNamesOfTheMeshAreNotLookedUpOutside(t *testing.T) {
	s, u := newServer(t), &ours{allowed: []string{".default", ".svc", ".arpa", ".shop"}}
	s.upstream = u
	for _, n := range []string{"details.default.", "details.default.svc.", "billing.shop.", "1.0.19.198.in-addr.arpa."} {
		ask(t, s, n, dnsmessage.TypeTXT)
	}
	ask(t, s, "_http._tcp.details.default.", dnsmessage.TypeSRV)
	if len(u.asked) != 0 {
		t.Errorf("asked outside: %q", u.asked)
	}
}
