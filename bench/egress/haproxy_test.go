package egress

import (
	"strings"
	"testing"
)

func TestAMissingHAProxyIsToldWithTheWayToGetIt(t *testing.T) {
	if _, err := findHAProxy("no-such-haproxy", "/nowhere/haproxy"); err == nil || !strings.Contains(err.Error(), "apt-get install haproxy") {
		t.Errorf("got %v", err)
	}
	if path, err := findHAProxy("no-such-haproxy", "sh"); err != nil || !strings.HasSuffix(path, "/sh") {
		t.Errorf("got %q, %v", path, err)
	}
}
