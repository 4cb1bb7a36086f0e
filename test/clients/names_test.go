package clients

import (
	"strings"
	"testing"
)

// Both send "Host: name:", which RFC 9110 allows.
func TestClientsThatSendAnEmptyPortReachTheHost(t *testing.T) {
	s := newSandbox(t)
	for name, script := range map[string][]string{
		"python3": {"-c", `import urllib.request; print(urllib.request.urlopen("http://www.example.com:/headers", timeout=60).read().decode())`},
		"perl":    {"-MLWP::UserAgent", "-e", `print LWP::UserAgent->new->get("http://www.example.com:/headers")->decoded_content`},
	} {
		t.Run(name, func(t *testing.T) {
			command := append([]string{client(t, name)}, script...)
			if name == "perl" && s.Run(t, "", command[0], "-MLWP::UserAgent", "-e", "1").Code != 0 {
				t.Skip("LWP is missing")
			}
			if r := s.run(t, "www.example.com:80", command...); r.Code != 0 || !strings.Contains(r.Stdout, `"host":"www.example.com"`) {
				t.Errorf("exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
			}
		})
	}
}

func TestAHostWithAnUnderscoreIsReached(t *testing.T) {
	s := newSandbox(t)
	s.net.Lie(t, "my_host.example.com", "93.184.215.14")
	r := s.run(t, "my_host.example.com:80", client(t, "curl"), "-sS", "--max-time", "60", "http://my_host.example.com/")
	// The server of that address speaks for itself: the host is not one of its own.
	if r.Code != 0 || r.Stdout != "\"my_host.example.com\" does not live here\n" {
		t.Errorf("exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
	}
	r = s.run(t, "other_host.example.com:80", client(t, "curl"), "-sS", "--max-time", "60", "http://my_host.example.com/")
	if !strings.Contains(r.Stderr, "sluice: denied my_host.example.com:80") || strings.Contains(r.Stdout, "does not live here") {
		t.Errorf("without a rule: exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
	}
}
