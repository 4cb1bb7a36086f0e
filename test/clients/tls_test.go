package clients

import (
	"strings"
	"testing"

	"sluice.dev/sluice/test/mesh"
)

// https is a client of a page over TLS. NAME in its command stands for the host, CA
// for the file of the trusted root.
type https struct {
	program string
	command []string
	env     string // a variable, NAME=value
}

func (h https) run(t *testing.T, s *sandbox, name string) mesh.Result {
	t.Helper()
	fill := strings.NewReplacer("NAME", name, "CAFILE", s.net.CA)
	var command []string
	if h.env != "" {
		command = []string{"/usr/bin/env", fill.Replace(h.env)}
	}
	command = append(command, client(t, h.program))
	for _, arg := range h.command {
		command = append(command, fill.Replace(arg))
	}
	s.net.Reset(t)
	return s.run(t, "www.example.com:443", command...)
}

var (
	nodeHTTPS = https{"node", []string{"-e", `require("https").get("https://NAME/headers", {ca: require("fs").readFileSync("CAFILE")}, r => r.on("data", d => process.stdout.write(d))).on("error", e => { console.error(e.message); process.exitCode = 1 })`}, ""}
	nodeFetch = https{"node", []string{"-e", `fetch("https://NAME/headers").then(r => r.text()).then(s => process.stdout.write(s))`}, "NODE_EXTRA_CA_CERTS=CAFILE"}
	pythonURL = https{"python3", []string{"-c", `import urllib.request; print(urllib.request.urlopen("https://NAME/headers", timeout=60).read().decode())`}, "SSL_CERT_FILE=CAFILE"}
	curlHTTPS = https{"curl", []string{"-sS", "--max-time", "60", "--cacert", "CAFILE", "https://NAME/headers"}, ""}
	wgetHTTPS = https{"wget", []string{"-nv", "-O-", "--tries=1", "--timeout=60", "--ca-certificate=CAFILE", "https://NAME/headers"}, ""}
	opensslGo = https{"openssl", []string{"s_client", "-brief", "-verify_return_error", "-CAfile", "CAFILE", "-connect", "NAME:443", "-servername", "NAME"}, ""}
)

// What a client offers reaches the server as it was: none at all, one, or h2 first.
func TestEachClientsProtocolsReachTheServerUnchanged(t *testing.T) {
	s := newSandbox(t)
	for name, c := range map[string]struct {
		https
		alpn string // that the server, which prefers h2, agrees to
		says string
	}{
		"Node's https sends no ALPN": {nodeHTTPS, "", `"proto":"HTTP/1.1"`},
		"Node's fetch sends its own": {nodeFetch, "http/1.1", `"proto":"HTTP/1.1"`},
		"urllib":                     {pythonURL, "http/1.1", `"proto":"HTTP/1.1"`},
		"curl offers h2":             {curlHTTPS, "h2", `"proto":"HTTP/2.0"`},
		"wget sends no ALPN":         {wgetHTTPS, "", `"proto":"HTTP/1.1"`},
		"openssl sends no ALPN":      {opensslGo, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.run(t, s, "www.example.com")
			if r.Code != 0 || !strings.Contains(r.Stdout, c.says) || strings.Contains(r.Stderr, "sluice:") {
				t.Errorf("exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
			}
			seen := s.net.Handshakes(t, "www.example.com")
			if len(seen) == 0 {
				t.Fatal("the server saw no handshake")
			}
			for _, h := range seen {
				if h.Error != "" || h.SNI != "www.example.com" || h.ALPN != c.alpn {
					t.Errorf("the server saw %+v, want ALPN %q", h, c.alpn)
				}
			}
		})
	}
}

// With a dot behind the name a client and a server may agree or not: that is theirs.
// The rule for the name allows it, nothing is denied, and what the client says then is
// the answer of its peer or its own.
func TestATrailingDotIsCarriedAndJudgedByTheTwoEnds(t *testing.T) {
	s := newSandbox(t)
	git := https{"git", []string{"ls-remote", "https://NAME/a.git"}, "GIT_SSL_CAINFO=CAFILE"}
	for name, c := range map[string]struct {
		https
		says []string // one of them
	}{
		// A dotted SNI; Go, in which the server is written, answers decode_error.
		"Node":    {nodeHTTPS, []string{"alert decode error"}},
		"Python":  {pythonURL, []string{"DECODE_ERROR", "decode error"}},
		"openssl": {opensslGo, []string{"alert decode error"}},
		// No dot in the SNI, and one in Host, for which the server has no site.
		"curl": {curlHTTPS, []string{`"www.example.com." does not live here`}},
		"wget": {wgetHTTPS, []string{"421"}},
		// With GnuTLS it refuses the certificate of the name without the dot; with
		// OpenSSL it takes it, and there is no repository.
		"git": {git, []string{"does not match target host name", "421"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.run(t, s, "www.example.com.")
			said, found := r.Stdout+r.Stderr, false
			for _, says := range c.says {
				found = found || strings.Contains(said, says)
			}
			if !found || strings.Contains(r.Stderr, "sluice:") {
				t.Errorf("exit %d, %q; want one of %q, and nothing denied", r.Code, said, c.says)
			}
			if len(s.net.Handshakes(t, "www.example.com")) < 2 {
				t.Error("the server saw the proof's handshake alone, not the client's")
			}
		})
	}
	t.Run("without TLS", func(t *testing.T) {
		r := s.run(t, "www.example.com:80", client(t, "curl"), "-sS", "--max-time", "60", "http://www.example.com./")
		if r.Code != 0 || strings.Contains(r.Stdout, "Sluice") || !strings.Contains(r.Stdout, "www.example.com") {
			t.Errorf("exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
		}
	})
	t.Run("of a name that no rule allows", func(t *testing.T) {
		r := curlHTTPS.run(t, s, "evil.example.net.")
		if r.Code == 0 || !strings.Contains(r.Stderr, "sluice: denied evil.example.net:443") || len(s.net.Connections(t, "evil.example.net")) != 0 {
			t.Errorf("exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
		}
	})
}

func TestAClientWithoutSNIIsRefusedAtOnceWithTheReason(t *testing.T) {
	s := newSandbox(t)
	c := https{"openssl", []string{"s_client", "-brief", "-CAfile", "CAFILE", "-connect", "NAME:443", "-noservername"}, ""}
	r := c.run(t, s, "www.example.com")
	if r.Code == 0 || !strings.Contains(r.Stderr, "unrecognized name") || !strings.Contains(r.Stderr, "sluice: denied www.example.com:443") || !strings.Contains(r.Stderr, "no SNI") {
		t.Errorf("exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
	}
	if n := len(s.net.Connections(t, "www.example.com")); n != 0 {
		t.Errorf("the server saw %d connections", n)
	}
}
