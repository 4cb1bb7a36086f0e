package advice

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
)

func TestTheShortFormOfARule(t *testing.T) {
	for text, want := range map[string]string{
		"www.example.com":      "www.example.com 443/https",
		"*.googleapis.com:443": "*.googleapis.com 443/https",
		"www.example.com:80":   "www.example.com 80/http",
		"db.example.com:5432":  "db.example.com 5432/tcp",
		"WWW.Example.com.:443": "www.example.com 443/https",
		"bücher.example":       "xn--bcher-kva.example 443/https",
		"*":                    "* 443/https",
		"my_svc.example:443":   "my_svc.example 443/https",
		"*.my_svc.example:80":  "*.my_svc.example 80/http",
		"192.0.2.1:22":         "192.0.2.1/32 22/tcp",
		"127.1:22":             "127.0.0.1/32 22/tcp",
		"10.0.0.0/8:443":       "10.0.0.0/8 443/https",
		"[2001:db8::1]:443":    "2001:db8::1/128 443/https",
		"2001:db8::1":          "2001:db8::1/128 443/https",
		"[2001:db8::/32]:22":   "2001:db8::/32 22/tcp",
		"2001:db8::/32":        "2001:db8::/32 443/https",

		"git.example.com:443/tcp":   "git.example.com 443/tcp",
		"*.example.com:443/TLS":     "*.example.com 443/tls",
		"www.example.com:8080/http": "www.example.com 8080/http",
		"www.example.com:80/https":  "www.example.com 80/https",
		"10.0.0.0/8:443/tcp":        "10.0.0.0/8 443/tcp",
		"[2001:db8::/32]:22/tls":    "2001:db8::/32 22/tls",
		"[2001:db8::1]:443/tcp":     "2001:db8::1/128 443/tcp",

		"www.example.com:80,443":        "www.example.com 80/http 443/https",
		"git.example.com:22,443/tcp":    "git.example.com 22/tcp 443/tcp",
		"a.example:80/tcp,8443/https":   "a.example 80/tcp 8443/https",
		"[2001:db8::1]:80,443":          "2001:db8::1/128 80/http 443/https",
		"https://www.example.com/":      "www.example.com 443/https",
		"https://www.example.com":       "www.example.com 443/https",
		"HTTP://www.example.com/":       "www.example.com 80/http",
		"http://www.example.com:8080":   "www.example.com 8080/http",
		"https://www.example.com:8443/": "www.example.com 8443/https",
		"https://[2001:db8::1]:8443/":   "2001:db8::1/128 8443/https",
		"https://[2001:db8::1]/":        "2001:db8::1/128 443/https",
		"https://*.example.com":         "*.example.com 443/https",
	} {
		r, err := ParseAllow(text)
		if err != nil {
			t.Error(err)
			continue
		}
		got := ""
		for _, h := range r.Hosts {
			got += h.String()
		}
		for _, p := range r.CIDRs {
			got += p.String()
		}
		for _, p := range r.Ports {
			got += " " + decimalPort(p)
		}
		if got != want || r.ID != "--allow "+text {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	for text, says := range map[string]string{
		"": "", ":443": "", "a.example:0": "port", "a.example:70000": "port", "a.example:x": "port", "a.example:": "port",

		"https://a.example/x": "http.paths", "https://a.example/?q": "https://a.example/, or",
		"ssh://git.example.com": "--allow git.example.com:22/tcp", "postgres://db.example.com:5433/x": "--allow db.example.com:5433/tcp", "gopher://a.example": "--allow a.example:PORT/tcp",
		"ws://a.example/chat": "a URL of ws: --allow a.example:80", "WSS://a.example": "a URL of wss: --allow a.example:443", "wss://a.example:8443/chat": "--allow a.example:8443/https", "ws://a.example:8080": "--allow a.example:8080/http",
		"https://a.example:x/": "port", "https://a.example:443/tcp": "http.paths", "https://a.example:80,443/": "port", "https:///": "", "://a.example": "",
		"localhost:8080": "--reach-host 8080", "http://localhost:8080/": "--publish 8080", "*.localhost": "own loopback", "LOCALHOST.:80": "own loopback",
		"a.example:80,80": "port 80 is given twice", "a.example:80,": "port", "a.example:,80": "port", "a.example:" + strings.TrimSuffix(strings.Repeat("1,", 70), ","): "twice",
		"10.0.0.0/33": "not a valid CIDR", "10.0.0.1/8": "bits set", "::ffff:10.0.0.0/104": "IPv4-mapped",
		"[::1]:": "port", "a..b": "", "*.*.com": "", "[2001:db8::]/32:443": "",
		"a.example:443/": `protocol "" is not one of tcp, http, http2, grpc, https, tls`, "a.example:443/ssh": `protocol "ssh"`, "a.example:443/mongo": `protocol "mongo"`,
		"a.example:443/udp": `protocol "udp"`, "a.example:443/tcp/x": `protocol "tcp/x"`, "a.example/tcp": "not a valid CIDR", "a.example:443/path": "tcp, http, http2, grpc, https, tls",
	} {
		if r, err := ParseAllow(text); err == nil || !strings.Contains(err.Error(), "--allow "+text) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q was read as %+v, %v", text, r, err)
		}
	}
}

func TestAUserBeforeAHostIsAnsweredWithTheHostAlone(t *testing.T) {
	for _, text := range []string{"git@github.com", "git@github.com:22", "git@github.com:org/repo.git", "a@b@github.com:22/tcp"} {
		if r, err := ParseAllow(text); err == nil || !strings.Contains(err.Error(), "--allow github.com:22/tcp") {
			t.Errorf("%q was read as %+v, %v", text, r, err)
		}
	}
}

func TestAPasswordInAURLStaysOutOfTheError(t *testing.T) {
	for _, text := range []string{"https://anna:hunter2@a.example/", "https://hunter2@a.example", "postgres://anna:hunter2@db.example:5432/x", "anna:hunter2@db.example:5432", "https://a:hunter2@x@a.example"} {
		_, err := ParseAllow(text)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// What is written of a rule is read as that rule.
func TestTheShortFormThatIsWrittenIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRule(t, "r")
		text := allowForm(&r)
		if text == "" {
			if len(r.Hosts)+len(r.CIDRs) == 1 && len(r.Ports) == 1 && len(r.HTTP)+len(r.PrivateAnswers) == 0 && (r.TLS.Mode == "" || r.TLS.Mode == policy.TLSAuto) {
				t.Fatalf("no short form of %s", said(r))
			}
			return
		}
		read, err := ParseAllow(text)
		if err != nil {
			t.Fatal(err)
		}
		read.ID = r.ID
		if said(read) != said(r) {
			t.Fatalf("%s is read as %s, and was written of %s", text, said(read), said(r))
		}
	})
}

func FuzzParseAllow(f *testing.F) {
	for _, seed := range []string{"www.example.com:443/tcp", "[::1]:80", "a.example:80,443/tcp", "https://a.example:8443/", "ssh://a.example", "http://[::1]:8080", "10.0.0.0/8:443", "*", "[", ":", "[]:1", "a:1/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseAllow(text)
		if err != nil {
			return
		}
		if len(r.Hosts)+len(r.CIDRs) != 1 || len(r.Ports) == 0 || len(r.Ports) > MaxAllowPorts || r.Ports[0].Port == 0 {
			t.Errorf("%q was read as %+v", text, r)
		}
		if _, err := policy.NewSet([]policy.Rule{r}, policy.Options{}); err != nil {
			t.Errorf("%q makes no rule: %v", text, err)
		}
	})
}

func decimalPort(p policy.Port) string {
	return strings.TrimPrefix(names.Host{Name: names.MustParse("x"), Port: p.Port}.String(), "x:") + "/" + p.Protocol.String()
}
