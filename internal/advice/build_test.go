package advice

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
)

func name(s string) names.Name {
	if s == "" {
		return names.Name{}
	}
	return names.MustParse(s)
}

// rule builds a rule from "host or cidr", "port/protocol" words.
func rule(id string, to string, ports ...string) policy.Rule {
	r := policy.Rule{ID: id}
	for _, word := range strings.Fields(to) {
		if strings.Contains(word, "/") {
			r.CIDRs = append(r.CIDRs, netip.MustParsePrefix(word))
		} else {
			r.Hosts = append(r.Hosts, names.MustParsePattern(word))
		}
	}
	for _, word := range ports {
		number, protocol, _ := strings.Cut(word, "/")
		var p policy.Port
		if _, err := fmt.Sscan(number, &p.Port); err != nil {
			panic(err)
		}
		var err error
		if p.Protocol, err = policy.ParseProtocol(protocol); err != nil {
			panic(err)
		}
		r.Ports = append(r.Ports, p)
	}
	return r
}

func requests(r policy.Rule, methods, paths string) policy.Rule {
	r.HTTP = append(r.HTTP, policy.HTTPMatch{Methods: strings.Fields(methods), Paths: strings.Fields(paths)})
	return r
}

func newSet(t interface {
	Helper()
	Fatal(...any)
}, rules ...policy.Rule) *policy.Set {
	t.Helper()
	s, err := policy.NewSet(rules, policy.Options{Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// chain is a policy.Chain that tests say in words.
type chain struct{ policy.Chain }

func dialled(n string, port uint16) chain {
	return chain{policy.Chain{Dialled: name(n), Port: port}}
}

func dialledAddr(a string, port uint16) chain {
	return chain{policy.Chain{Addr: netip.MustParseAddr(a), Port: port}}
}

func (c chain) tls(sni string) chain {
	c.Sniffed, c.SNI = policy.ClientHello, name(sni)
	return c
}

func (c chain) get(host, path string) chain {
	c.Sniffed, c.Method, c.Path = policy.HTTP, "GET", path
	if host != "" {
		h, err := names.ParseHost(host)
		if err != nil {
			panic(err)
		}
		c.Host = h
	}
	return c
}

func (c chain) opaque() chain         { c.Sniffed = policy.Opaque; return c }
func (c chain) method(m string) chain { c.Method = m; return c }

// check decides and compares with "treatment by rule" or a reason.
func check(t *testing.T, s *policy.Set, say string, c chain, want string) policy.Verdict {
	t.Helper()
	v := s.Decide(&c.Chain)
	got := string(v.Reason)
	if v.Action == policy.Allow {
		got = v.Treatment.String() + " by " + v.Rule.ID
	}
	if got != want {
		t.Errorf("%s: %s, want %s", say, got, want)
	}
	return v
}

func explain(s *policy.Set, c chain, opts Options) Explanation {
	return Explain(s, &c.Chain, s.Decide(&c.Chain), opts)
}

const googleapis, google = "www.googleapis.com", "www.google.com"

var detailsV2 = Options{Namespace: "default", Labels: map[string]string{"app": "details", "version": "v2"}}

func (c chain) upgrade(protocol string) chain { c.Upgrade = protocol; return c }
func (c chain) https() chain                  { c.HTTPS = true; return c }
