package test

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/test/mesh"
)

// A demo as a user meets it: the address without a path, the first flows, the logs; and
// then its end behind a pipe whose reader is gone, as ^C ends tee before the demo.
func TestADemoBehindAPipeIsTheUsersAloneAndLeavesNothing(t *testing.T) {
	needRootToSeeSandboxes(t)
	d := mesh.StartDemo(t, mesh.User{Name: "root", UID: -1})
	machine := look(t, d)
	if r := d.Sluice(t, "flows", "-A"); r.Code != 0 || strings.Count(r.Stdout, "\n") > 1 {
		t.Errorf("before anybody went anywhere there are flows:\n%s%s", r.Stdout, r.Stderr)
	}
	logs := regexp.MustCompile(`(?m)^  logs +(\S+) `).FindStringSubmatch(d.Said())
	if logs == nil {
		t.Fatalf("no place of the logs is printed:\n%s", d.Said())
	}
	for _, name := range []string{"sluice-server", "sluice-proxy", "productpage-v1"} {
		if _, err := os.Stat(filepath.Join(logs[1], name+".log")); err != nil {
			t.Error(err)
		}
	}
	if text, err := os.ReadFile(filepath.Join(logs[1], "sluice-proxy.log")); err != nil || !strings.Contains(string(text), "ready") {
		t.Errorf("the proxy's log: %q, %v", text, err)
	}
	// The first page is whole, though the demo did not try it.
	client := &http.Client{Timeout: mesh.Patience}
	resp, err := client.Get(strings.TrimSuffix(d.URL, "productpage"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.Request.URL.String() != d.URL || resp.StatusCode != http.StatusOK {
		t.Errorf("the address without a path leads to %s, status %d", resp.Request.URL, resp.StatusCode)
	}
	if page := d.Page(t); !strings.Contains(page, "Book Details") || !strings.Contains(page, "Book Reviews") || strings.Contains(page, "Error fetching") {
		t.Errorf("the first page:\n%s", page)
	}
	d.StopReading()
	d.Stop(t)
	select {
	case <-d.Ended():
	case <-time.After(mesh.Patience):
		t.Fatal("the demo did not end")
	}
	machine.isAsBefore(t, d)
	nothingLeft(t, d)
}
