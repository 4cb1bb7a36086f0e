package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/test/mesh"
)

// logged is the lines of an access log.
func logged(t *testing.T, path string) (lines []map[string]any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var one map[string]any
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		lines = append(lines, one)
	}
	return lines
}

// until waits for the line that one of the log's is.
func until(t *testing.T, path string, is func(line map[string]any) bool) (found map[string]any) {
	t.Helper()
	mesh.Eventually(t, func() string {
		for _, line := range logged(t, path) {
			if is(line) {
				found = line
				return ""
			}
		}
		return fmt.Sprint("it is not among ", logged(t, path))
	})
	return found
}

// The access log has each request and connection, with its timings and without the values
// of its query, and goes on in a new file after SIGHUP.
func TestTheAccessLogHasALineForAllThatWasCarriedAndDenied(t *testing.T) {
	m := &machinery{Place: mesh.NewPlace(t, mesh.User{Name: "user", UID: -1})}
	path := filepath.Join(t.TempDir(), "access.log")
	m.net = m.StartInternet(t)
	m.server = m.StartServer(t)
	m.proxy = m.StartProxy(t, m.net, "--access-log", path)
	caller := m.StartWorkload(t, "--service", "caller", "--version", "v3")
	m.create(t, policyFor("google", "caller", "v3", "www.googleapis.com"))
	// A server that has closed answers what the client says last by a reset, and such an end is an
	// error for the log: then another connection shows the line.
	var opened map[string]any
	mesh.Eventually(t, func() string {
		m.opens(t, caller, "https://www.googleapis.com/")
		lines := logged(t, path)
		at := slices.IndexFunc(lines, func(line map[string]any) bool {
			return line["check.verdict"] == "allow" && line["connection.requested_server_name"] == "www.googleapis.com"
		})
		if at < 0 {
			return fmt.Sprint("it is not among ", lines)
		}
		opened = lines[at]
		return ""
	})
	if opened["check.rule"] != "egress-policy/default/google" || opened["timing.tls"] == nil || opened["timing.connect"] == nil || opened["connection.sent.bytes_total"].(float64) <= 0 {
		t.Errorf("TLS that was passed through: %v", opened)
	}
	m.get(t, caller, "http://www.googleapis.com:443/books/v1/volumes?q=isbn:0486424618&key=secret")
	asked := until(t, path, func(line map[string]any) bool { return line["request.host"] == "www.googleapis.com:443" })
	if asked["request.path"] != "/books/v1/volumes" || asked["timing.first_byte"] == nil || asked["timing.tls"] == nil || asked["context.protocol"] != "https" || asked["source.name"] != "caller-v3" {
		t.Errorf("a request whose TLS is ours: %v", asked)
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	before := len(logged(t, path+".1"))
	if err := unix.Kill(m.proxy.PID(), unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	mesh.Eventually(t, func() string {
		if _, err := os.Stat(path); err != nil {
			return err.Error()
		}
		return ""
	})
	if a := m.get(t, caller, "http://www.google.com/"); a.Code != 403 {
		t.Fatalf("%+v", a)
	}
	denied := until(t, path, func(line map[string]any) bool { return line["check.verdict"] == "deny" })
	if denied["check.flags"] != "DENY" || denied["check.error_code"] != "no-rule" || denied["check.id"] == nil {
		t.Errorf("a denial: %v", denied)
	}
	if after := len(logged(t, path+".1")); after != before {
		t.Errorf("the old file grew from %d to %d lines", before, after)
	}
}
