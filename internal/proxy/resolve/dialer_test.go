package resolve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/refusal"
)

// publicOnly is consent to public addresses alone.
var publicOnly = policy.NewConsent(nil, nil)

func prefixesOf(texts ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		all[i] = netip.MustParsePrefix(text)
	}
	return all
}

func listen(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// newDialer resolves by a zone and dials public addresses on loopback.
func newDialer(t *testing.T, at map[netip.AddrPort]netip.AddrPort, records ...string) (*Dialer, *loopback) {
	t.Helper()
	sockets := &loopback{at: at}
	return NewDialer(DialerConfig{Sockets: sockets, Resolver: newResolver(t, serveDNS(t, zone(records...)))}), sockets
}

func TestDialRefusesByName(t *testing.T) {
	server := listen(t)
	public := netip.MustParseAddrPort("93.184.216.34:443")
	for _, c := range []struct {
		name    string
		records []string
		target  Target
		want    refusal.Reason
		tried   string
		text    string
	}{
		{"a public address", []string{"www.example.com. 60 93.184.216.34"}, Target{Consent: publicOnly}, "", "[93.184.216.34:443]", ""},
		{"rebinding to loopback", []string{"www.example.com. 60 127.0.0.1"}, Target{Consent: publicOnly}, refusal.PrivateAddress, "[]", "privateAnswers"},
		{"rebinding to the metadata service", []string{"www.example.com. 60 169.254.169.254", "www.example.com. 60 ::1"}, Target{Consent: publicOnly}, refusal.PrivateAddress, "[]", "169.254.169.254"},
		{"rebinding beside a public address", []string{"www.example.com. 60 127.0.0.1", "www.example.com. 60 93.184.216.34", "www.example.com. 60 ::ffff:127.0.0.1"}, Target{Consent: publicOnly}, "", "[93.184.216.34:443]", ""},
		{"to our own addresses, with consent to everything", []string{"www.example.com. 60 198.19.0.1"}, Target{Consent: policy.NewConsent(nil, prefixesOf("0.0.0.0/0"))}, refusal.PrivateAddress, "[]", ""},
		{"inside the rule's addresses", []string{"www.example.com. 60 93.184.216.34", "www.example.com. 60 8.8.4.4"}, Target{Consent: policy.NewConsent(prefixesOf("93.184.0.0/16"), prefixesOf("93.184.0.0/16"))}, "", "[93.184.216.34:443]", ""},
		{"outside the rule's addresses", []string{"www.example.com. 60 8.8.4.4"}, Target{Consent: policy.NewConsent(prefixesOf("93.184.0.0/16"), prefixesOf("93.184.0.0/16"))}, refusal.OutsideCIDR, "[]", "8.8.4.4, outside"},
		{"within nothing", []string{"www.example.com. 60 93.184.216.34"}, Target{Consent: policy.NewConsent(prefixesOf(), prefixesOf())}, refusal.OutsideCIDR, "[]", ""},
		{"outside and private", []string{"www.example.com. 60 8.8.4.4", "www.example.com. 60 198.19.3.3"}, Target{Consent: policy.NewConsent(prefixesOf("198.19.0.0/16"), prefixesOf("198.19.0.0/16"))}, refusal.PrivateAddress, "[]", "198.19.3.3"},
		{"no such name", nil, Target{Consent: publicOnly}, refusal.NoSuchName, "[]", "www.example.com does not exist"},
		{"an address of a rule", nil, Target{Addr: public.Addr(), Consent: publicOnly}, "", "[93.184.216.34:443]", ""},
		{"an address of a rule outside its CIDR", nil, Target{Addr: public.Addr(), Consent: policy.NewConsent(prefixesOf("8.0.0.0/8"), prefixesOf("8.0.0.0/8"))}, refusal.OutsideCIDR, "[]", ""},
		{"a synthetic address as an address", nil, Target{Addr: netip.MustParseAddr("198.19.0.1"), Consent: publicOnly}, refusal.PrivateAddress, "[]", ""},
		{"no address and no name", nil, Target{Addr: netip.Addr{}, Port: 1}, refusal.PrivateAddress, "[]", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, sockets := newDialer(t, map[netip.AddrPort]netip.AddrPort{public: server}, c.records...)
			if !c.target.Addr.IsValid() && c.target.Port == 0 {
				c.target.Name = www
			}
			c.target.Port = 443
			conn, _, err := d.Dial(t.Context(), c.target)
			var e *refusal.Error
			switch {
			case err == nil && c.want == "":
				conn.Close()
			case errors.As(err, &e) && e.Reason == c.want:
				if !strings.Contains(e.Error(), c.text) || e.Error() == "" {
					t.Errorf("text %q lacks %q", e.Error(), c.text)
				}
				if denied := c.want == refusal.PrivateAddress || c.want == refusal.OutsideCIDR; e.Denied() != denied || (e.Reason.Status() == 403) != denied {
					t.Errorf("status %d", e.Reason.Status())
				}
			default:
				t.Errorf("%v, want %q", err, c.want)
			}
			if got := fmt.Sprint(sockets.tried); got != c.tried {
				t.Errorf("connect was called for %s, want %s", got, c.tried)
			}
		})
	}
}

func TestAPrivateServiceIsReachedWithConsent(t *testing.T) {
	server := listen(t)
	d, _ := newDialer(t, nil, "www.example.com. 60 127.0.0.1")
	for name, target := range map[string]Target{
		"privateAnswers":       {Name: www, Consent: policy.NewConsent(nil, prefixesOf("127.0.0.0/8"))},
		"a rule on CIDRs":      {Name: www, Consent: policy.NewConsent(prefixesOf("127.0.0.1/32"), prefixesOf("127.0.0.1/32"))},
		"a rule on an address": {Addr: netip.MustParseAddr("127.0.0.1"), Consent: policy.NewConsent(nil, prefixesOf("127.0.0.1/32"))},
	} {
		target.Port = server.Port()
		conn, _, err := d.Dial(t.Context(), target)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		conn.Close()
	}
}

func TestDialAddrChecksTheVeryAddress(t *testing.T) {
	server := listen(t)
	d, sockets := newDialer(t, nil)
	_, err := d.DialAddr(t.Context(), Target{Name: www, Port: server.Port(), Consent: publicOnly}, server)
	var e *refusal.Error
	if !errors.As(err, &e) || e.Reason != refusal.PrivateAddress {
		t.Errorf("%v", err)
	}
	if len(sockets.tried) != 0 {
		t.Errorf("connect was called for %v", sockets.tried)
	}
	conn, err := d.DialAddr(t.Context(), Target{Name: www, Port: server.Port(), Consent: policy.NewConsent(nil, prefixesOf("127.0.0.1/32"))}, server)
	must(t, err)
	conn.Close()
}

func TestAClosedPortIsRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	at := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	d, _ := newDialer(t, nil)
	_, _, err = d.Dial(t.Context(), Target{Addr: at.Addr(), Port: at.Port(), Consent: policy.NewConsent(nil, prefixesOf("127.0.0.0/8"))})
	var e *refusal.Error
	if !errors.As(err, &e) || e.Reason != refusal.ConnectRefused || e.Reason.Status() != 502 || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v", err)
	}
}

func TestTheSourceIsUsedWhereItsFamilyFits(t *testing.T) {
	var sources []netip.Addr
	d := NewDialer(DialerConfig{Sockets: sourceSockets{&sources}})
	source := netip.MustParseAddr("198.18.1.7")
	for _, to := range []string{"8.8.4.4:443", "[2a00::1]:443"} {
		d.DialAddr(t.Context(), Target{Name: www, Source: source, Consent: publicOnly}, netip.MustParseAddrPort(to))
	}
	if len(sources) != 2 || sources[0] != source || sources[1].IsValid() {
		t.Errorf("%v", sources)
	}
}

type sourceSockets struct{ sources *[]netip.Addr }

func (s sourceSockets) DialTCP(_ context.Context, src netip.Addr, _ netip.AddrPort) (*net.TCPConn, error) {
	*s.sources = append(*s.sources, src)
	return nil, syscall.ENETUNREACH
}

func (s sourceSockets) DialUDP(context.Context, netip.AddrPort) (net.Conn, error) {
	return nil, syscall.ENETUNREACH
}

func TestEveryReasonHasAText(t *testing.T) {
	for reason, status := range map[refusal.Reason]int{
		refusal.PrivateAddress: 403, refusal.OutsideCIDR: 403, refusal.NoSuchName: 502, refusal.NoAddress: 502, refusal.ResolveFailed: 503,
		refusal.TooManyNames: 503, refusal.ConnectRefused: 502, refusal.ConnectTimeout: 504, refusal.ConnectFailed: 502,
	} {
		e := failed(reason, www, []netip.Addr{netip.MustParseAddr("8.8.4.4")}, nil)
		if e.Reason.Status() != status || e.Error() == "" || strings.Contains(e.Error(), "()") {
			t.Errorf("%s: %d %q", reason, e.Reason.Status(), e.Error())
		}
	}
}

func TestTheAnswerThatWasRefusedIsNamed(t *testing.T) {
	d, _ := newDialer(t, nil, "www.example.com. 60 10.1.2.3", "www.example.com. 60 10.1.2.4")
	_, _, err := d.Dial(t.Context(), Target{Name: www, Port: 443, Consent: publicOnly})
	if tried := refusal.Of(err).Tried(); tried != netip.MustParseAddrPort("10.1.2.3:443") {
		t.Errorf("%v: refused at %s", err, tried)
	}
}
