package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// opened waits until so many records are open, and returns them.
func (m *meshOf) opened(n int) []record.Record {
	m.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		live := m.proxy.Live(100, record.Filter{})
		if len(live) == n {
			return live
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("%d records are open, want %d: %+v", len(live), n, live)
		}
	}
}

// What is live is listed while it lives, and closed once when it ends, whichever way it
// goes.
func TestWhatIsLiveIsListedAndClosedOnce(t *testing.T) {
	n := newFakeNet(t)
	kinds := liveKinds(t, n)
	for i := range 3 + len(kinds) {
		m := newMesh(t, n)
		inside := insideKinds(m)
		kind := append(inside, kinds...)[i]
		t.Run(kind.name, func(t *testing.T) {
			m.t = t
			want, open, direction := record.Allowed, 1, record.Egress
			if i < len(inside) {
				direction = record.Mesh
			} else {
				m.allow(kind.rule)
			}
			c := kind.open(t, m)
			if strings.HasSuffix(kind.name, "between two requests") {
				open = 0 // a record is of a request
			}
			for _, f := range m.opened(open) {
				if f.Verdict != want || f.Direction != direction || f.Workload != "client/1" || f.Treatment == policy.Refuse || f.Duration != 0 {
					t.Errorf("the open record says %+v", f)
				}
				if from := f.Source.Party(); from.Workload != "command" || from.Namespace != "default" {
					t.Errorf("the open record is of %+v", from)
				}
				if to := f.Destination.Party(); direction == record.Mesh && (to.Workload != strings.Split(f.Upstream, "/")[0] || to.Namespace != "default" || to.Service != f.Dialled) {
					t.Errorf("the open record of a call of %s says that it went to %+v", f.Upstream, to)
				}
				// The handshake was counted before what came behind it was carried.
				if kind.name == "TLS that is passed through" && (f.Sent == 0 || f.Received == 0) {
					t.Errorf("the open record of a relay says %d and %d bytes", f.Sent, f.Received)
				}
			}
			if kind.name == "TCP to a server that does not read" {
				m.allow() // its relay waits for the server alone
			} else {
				if tcp, ok := c.(*client); ok {
					tcp.SetLinger(0) // an end alone may be of one direction
				}
				c.Close()
			}
			m.opened(0)
			m.closed(1)
			within(t, patience, "Close hangs", m.proxy.Close)
			if m.ring.Added() != 1 {
				t.Errorf("%d records were closed, want one", m.ring.Added())
			}
		})
	}
}

// Each way to come to nothing is reported by the same few words: what became of it, and why.
func TestEachOutcomeIsRecordedWithItsReason(t *testing.T) {
	n := newFakeNet(t)
	n.leads("refused.example.com", "93.184.222.1", syscall.ECONNREFUSED)
	n.leads("private.example.com", "10.0.0.1", nil)
	n.site("wrong.example.com", "93.184.222.2", 443, n.overTLS(hello, "another.example.com"))
	n.site("plain.example.com", "93.184.222.3", 443, func(c net.Conn) { io.WriteString(c, "220 hello\r\n") })
	n.site("resets.example.com", "93.184.222.4", 80, func(c net.Conn) {
		http.ReadRequest(bufio.NewReader(c))
		c.(*net.TCPConn).SetLinger(0)
	})
	n.site("resets5.example.com", "93.184.222.5", 5000, func(c net.Conn) {
		c.Read(make([]byte, 4))
		c.(*net.TCPConn).SetLinger(0)
	})
	asked := make(chan struct{}, 16)
	silent := func(c net.Conn) {
		c.Read(make([]byte, 1))
		asked <- struct{}{}
		io.Copy(io.Discard, c)
	}
	n.site("silent.example.com", "93.184.222.6", 80, silent)
	n.site("silent5.example.com", "93.184.222.7", 5000, silent)
	n.leads("refused5.example.com", "93.184.222.8", syscall.ECONNREFUSED)
	m := newMesh(t, n)
	m.service("details", hello)
	m.service("gone", hello)
	m.peer("gone-v1/1").Close() // its proxy serves it no more, the snapshot has it still
	rules := []policy.Rule{rule(t, "*.example.com:80"), rule(t, "*.example.com"), rule(t, "*.example.com:5000")}
	request := func(host string, port uint16) func(*testing.T) {
		return func(t *testing.T) {
			c := m.dial(host, port)
			got(t, c, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		}
	}
	bytes := func(host string, port uint16) func(*testing.T) {
		return func(t *testing.T) {
			c := m.dial(host, port)
			c.Write([]byte{0, 1, 2, 3})
			ends(t, c)
		}
	}
	shake := func(host string) func(*testing.T) {
		return func(t *testing.T) { n.shake(m.dial(host, 443), host) }
	}
	left := func(host string, port uint16, say string) func(*testing.T) {
		return func(t *testing.T) {
			c := m.dial(host, port)
			io.WriteString(c, say)
			<-asked
			c.SetLinger(0)
			c.Close()
		}
	}
	const inside = "details.default.svc.cluster.local"
	for _, x := range []struct {
		what      string
		do        func(*testing.T)
		verdict   record.Verdict
		reason    refusal.Reason
		treatment policy.Treatment
		direction record.Direction
	}{
		{"no rule", request("www.example.org", 80), record.Denied, refusal.NoRule, policy.Refuse, record.Egress},
		{"bytes without a rule", bytes("www.example.org", 5000), record.Denied, refusal.NoRule, policy.Refuse, record.Egress},
		{"an unknown name", request("absent.example.com", 80), record.Failed, refusal.NoAddress, policy.Forward, record.Egress},
		{"a refused connection", request("refused.example.com", 80), record.Failed, refusal.ConnectRefused, policy.Forward, record.Egress},
		{"a refused connection of bytes", bytes("refused5.example.com", 5000), record.Failed, refusal.ConnectRefused, policy.Relay, record.Egress},
		{"a dial that is forbidden", request("private.example.com", 80), record.Denied, refusal.PrivateAddress, policy.Forward, record.Egress},
		{"bytes whose dial is forbidden", bytes("private.example.com", 5000), record.Denied, refusal.PrivateAddress, policy.Relay, record.Egress},
		{"another's certificate", request("wrong.example.com", 443), record.Denied, refusal.CertificateFail, policy.Originate, record.Egress},
		{"another's certificate, passed through", shake("wrong.example.com"), record.Denied, refusal.CertificateFail, policy.Passthrough, record.Egress},
		{"a server that speaks no TLS", request("plain.example.com", 443), record.Failed, refusal.UpstreamTLS, policy.Originate, record.Egress},
		{"a server that speaks no TLS, passed through", shake("plain.example.com"), record.Failed, refusal.UpstreamTLS, policy.Passthrough, record.Egress},
		{"an answer that breaks off", request("resets.example.com", 80), record.Failed, refusal.UpstreamReset, policy.Forward, record.Egress},
		{"bytes that break off", bytes("resets5.example.com", 5000), record.Failed, refusal.UpstreamReset, policy.Relay, record.Egress},
		{"a client that leaves", left("silent.example.com", 80, "GET / HTTP/1.1\r\nHost: silent.example.com\r\n\r\n"), record.Failed, refusal.ClientGone, policy.Forward, record.Egress},
		{"a client that leaves its bytes", left("silent5.example.com", 5000, "ping"), record.Failed, refusal.ClientGone, policy.Relay, record.Egress},
		{"a client that leaves amid its hello", func(t *testing.T) {
			c := m.dial("wrong.example.com", 443)
			c.Write([]byte{0x16, 3, 1, 1, 0, 1})
			m.read()
			c.SetLinger(0)
			c.Close()
		}, record.Failed, refusal.ClientGone, policy.Refuse, record.Egress},
		{"a client that leaves amid a request's head", func(t *testing.T) {
			c := m.dial("silent.example.com", 80)
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: silent.exam")
			m.read()
			c.SetLinger(0)
			c.Close()
		}, record.Failed, refusal.ClientGone, policy.Refuse, record.Egress},
		{"a rule that is withdrawn", func(t *testing.T) {
			c := m.dial("silent5.example.com", 5000)
			io.WriteString(c, "ping")
			<-asked
			m.allow()
			ends(t, c)
		}, record.Denied, refusal.NoRule, policy.Relay, record.Egress},
		{"a request whose rule is withdrawn", func(t *testing.T) {
			c := m.dial("silent.example.com", 80)
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: silent.example.com\r\n\r\n")
			<-asked
			m.allow()
			ends(t, c)
		}, record.Denied, refusal.NoRule, policy.Forward, record.Egress},
		{"a service without an endpoint", request("gone.default.svc.cluster.local", 9080), record.Failed, refusal.NoHealthyUpstream, policy.Mesh, record.Mesh},
		{"a port that a service has not", bytes(inside, 9081), record.Failed, refusal.NoSuchPort, policy.Mesh, record.Mesh},
		{"a request to a service", request(inside, 9080), record.Allowed, "", policy.Mesh, record.Mesh},
		{"two Hosts", func(t *testing.T) {
			got(t, m.dial(inside, 9080), "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
		}, record.Denied, refusal.RequestMalformed, policy.Refuse, record.Mesh},
	} {
		t.Run(x.what, func(t *testing.T) {
			m.allow(rules...)
			before := m.ring.Added()
			x.do(t)
			m.closed(before + 1)
			f := m.lastFlow()
			if f.Verdict != x.verdict || f.Reason != x.reason || f.Treatment != x.treatment || f.Direction != x.direction {
				t.Errorf("%s %s %s %s, want %s %s %s %s: %+v", f.Verdict, f.Reason, f.Treatment, f.Direction, x.verdict, x.reason, x.treatment, x.direction, f)
			}
			m.opened(0)
		})
	}
}

func TestARequestFromOutsideIsRecordedAsSuch(t *testing.T) {
	m := newMesh(t, newFakeNet(t))
	m.service("details", hello)
	dial := m.ingress("/details")
	for _, x := range []struct {
		path, want string
		verdict    record.Verdict
		reason     refusal.Reason
	}{
		{"/details", "200 x", record.Allowed, ""},
		{"/other", "404 no-route", record.Denied, refusal.NoRoute},
	} {
		before := m.ring.Added()
		if got := got(t, dial(), "GET "+x.path+" HTTP/1.1\r\nHost: x\r\n\r\n"); got != x.want {
			t.Errorf("%s: %s", x.path, got)
		}
		m.closed(before + 1)
		if f := m.lastFlow(); f.Direction != record.Ingress || f.Verdict != x.verdict || f.Reason != x.reason || f.Dialled != "ingress" {
			t.Errorf("%s: the record says %+v", x.path, f)
		}
	}
}

// Whether we originate TLS or pass it through, the same fault has the same words, and
// they are of the case.
func TestAFaultOfTLSIsWordedAlikeWhoeverBringsTheTLS(t *testing.T) {
	n := newFakeNet(t)
	n.site("wrong.example.com", "93.184.222.2", 443, n.overTLS(hello, "another.example.com"))
	n.site("plain.example.com", "93.184.222.3", 443, func(c net.Conn) { io.WriteString(c, "220 hello\r\n") })
	n.leads("refused.example.com", "93.184.222.4", syscall.ECONNREFUSED)
	n.leads("private.example.com", "10.1.2.3", nil)
	loopback := regexp.MustCompile(`127\.0\.0\.1:\d+|93\.184\.222\.\d:443`)
	for host, want := range map[string]string{
		"wrong.example.com":   "the server at ADDRESS did not prove to be wrong.example.com: x509: certificate is valid for another.example.com, not wrong.example.com",
		"plain.example.com":   "TLS handshake with ADDRESS for plain.example.com: tls: first record does not look like a TLS handshake",
		"refused.example.com": "refused.example.com (93.184.222.4) refused the connection: connection refused",
		"private.example.com": "private.example.com leads to 10.1.2.3, which is not an address of the public internet; a rule allows that with privateAnswers",
	} {
		m := newMesh(t, n, rule(t, "*.example.com"))
		got(t, m.dial(host, 443), "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
		originated := m.lastFlow()
		m = newMesh(t, n, rule(t, "*.example.com"))
		m.getTLS(host, 443)
		passed := m.lastFlow()
		for _, f := range []*record.Record{&originated, &passed} {
			f.Detail = loopback.ReplaceAllString(f.Detail, "ADDRESS")
		}
		if passed.Treatment != policy.Passthrough || originated.Treatment != policy.Originate || originated.Reason != passed.Reason || originated.Detail != want || passed.Detail != want {
			t.Errorf("%s:\noriginated %s %s: %s\npassed %s %s: %s\nwant %s", host, originated.Treatment, originated.Reason, originated.Detail, passed.Treatment, passed.Reason, passed.Detail, want)
		}
	}
}
