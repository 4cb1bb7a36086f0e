package test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice.dev/sluice/test/mesh"
)

// portOf is the port of an address or a URL.
func portOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

func TestAPublishedPortOfTheCommandIsOpenOutsideAndNoOther(t *testing.T) {
	for _, user := range mesh.Users(t) {
		t.Run(user.Name, func(t *testing.T) {
			place := mesh.NewPlace(t, user)
			outside, other := portOf(freePort(t)), portOf(freePort(t))
			place.Background(t, nil, "sluice", "run", "--publish", outside+":8000", "--", filepath.Join(place.Bin, "bookinfo"), "details", "8000")
			var body string
			mesh.Eventually(t, func() string {
				resp, err := http.Get("http://127.0.0.1:" + outside + "/details/0")
				if err != nil {
					return err.Error()
				}
				defer resp.Body.Close()
				got, err := io.ReadAll(resp.Body)
				if body = string(got); err != nil || resp.StatusCode != 200 {
					return fmt.Sprint(resp.Status, err)
				}
				return ""
			})
			if !strings.Contains(body, `"author"`) {
				t.Errorf("the published port answers %q", body)
			}
			for _, closed := range []string{"127.0.0.1:8000", "127.0.0.1:" + other, "127.0.0.2:" + outside} {
				if conn, err := net.DialTimeout("tcp", closed, time.Second); err == nil {
					conn.Close()
					t.Errorf("%s is open too", closed)
				}
			}
			r := place.Sluice(t, "run", "--publish", outside, "--", "true")
			if r.Code != 125 || !strings.Contains(r.Stderr, "--publish 127.0.0.1:"+outside+":"+outside+": ") || !strings.Contains(r.Stderr, "in use") {
				t.Errorf("a port that is taken: exit %d, %q", r.Code, r.Stderr)
			}
		})
	}
}

func TestACommandReachesTheHostsLoopbackByItsNameOnTheNamedPortAlone(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is missing")
	}
	var seen atomic.Int32
	serve := func() (*httptest.Server, string) {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			seen.Add(1)
			io.WriteString(w, "of the host")
		}))
		t.Cleanup(s.Close)
		return s, portOf(s.URL)
	}
	_, port := serve()
	_, closed := serve()
	for _, user := range mesh.Users(t) {
		t.Run(user.Name, func(t *testing.T) {
			place := mesh.NewPlace(t, user)
			get := func(flags []string, url string) mesh.Result {
				return place.Sluice(t, append(append([]string{"run"}, flags...), "--", curl, "-sS", "--max-time", "20", url)...)
			}
			reach := []string{"--reach-host", port}
			seen.Store(0)
			if r := get(reach, "http://host.sluice.internal:"+port+"/"); r.Code != 0 || r.Stdout != "of the host" || seen.Load() != 1 {
				t.Errorf("the named port: exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
			}
			seen.Store(0)
			for name, r := range map[string]mesh.Result{
				"another port":          get(reach, "http://host.sluice.internal:"+closed+"/"),
				"without the flag":      get(nil, "http://host.sluice.internal:"+port+"/"),
				"the sandbox's own":     get(reach, "http://127.0.0.1:"+port+"/"),
				"a name below it":       get(reach, "http://x.host.sluice.internal:"+port+"/"),
				"a wildcard is no wish": get([]string{"--allow", "*:" + port}, "http://host.sluice.internal:"+port+"/"),
			} {
				if r.Stdout == "of the host" || seen.Load() > 0 {
					t.Errorf("%s: exit %d, %q", name, r.Code, r.Stdout)
				}
			}
			if r := place.Sluice(t, "run", "--allow", "localhost:"+port, "--", "true"); r.Code != 125 || !strings.Contains(r.Stderr, "--reach-host "+port) {
				t.Errorf("localhost is allowed: exit %d, %q", r.Code, r.Stderr)
			}
		})
	}
}
