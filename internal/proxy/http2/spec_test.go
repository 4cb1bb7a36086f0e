package http2_test

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/proxy/http2"
	"sluice.dev/sluice/internal/proxy/upstream"
)

// h2spec's cases, with bodies passed on to a server of HTTP/1.1. One differs: first bytes that
// are not HTTP/2's preface (RFC 9113, section 3.4) are HTTP/1.1, and are answered in that.
func TestH2specFindsOneDifferenceAlone(t *testing.T) {
	h2spec := os.Getenv("SLUICE_H2SPEC")
	if h2spec == "" {
		t.Skip("SLUICE_H2SPEC does not name h2spec: make test-h2spec installs it, and runs this")
	}
	f := newFixture(t, upstream.HTTP11, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("hello, this is some text\n")) }), http2.Limits{})
	host, port, err := net.SplitHostPort(f.address)
	if err != nil {
		t.Fatal(err)
	}
	out, _ := exec.Command(h2spec, "--host", host, "--port", port, "--timeout", "10").CombinedOutput() // it fails where a case does
	said := string(out)
	_, failed, _ := strings.Cut(said, "\nFailures:")
	if !strings.Contains(said, "145 tests, 144 passed, 0 skipped, 1 failed") || !regexp.MustCompile(`3\.5\. .*\n\s+× 2: `).MatchString(failed) {
		t.Errorf("%s", said)
	}
}
