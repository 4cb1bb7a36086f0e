package dnsserver

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/sandbox"
)

// lookupVariable makes the test binary look names up with Go's own resolver.
const lookupVariable = "DNSSERVER_TEST_LOOKUP"

func TestMain(m *testing.M) {
	sandbox.Init()
	if text := os.Getenv(lookupVariable); text != "" {
		for name := range strings.FieldsSeq(text) {
			r := net.Resolver{PreferGo: true}
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			addrs, err := r.LookupHost(ctx, name)
			cancel()
			fmt.Println(name, addrs, err != nil)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// inSandbox runs a command whose DNS is s and returns what it wrote.
func inSandbox(t *testing.T, s *Server, env []string, command ...string) string {
	t.Helper()
	if err := sandbox.Probe(t.Context()); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, in, err := os.Pipe()
	must(t, err)
	defer out.Close()
	box, err := sandbox.New(ctx, sandbox.Config{Command: command, Env: append(os.Environ(), env...), Stdout: in, Stderr: in})
	must(t, err)
	defer box.Kill()
	captured, err := capture.FromFiles(box.Files())
	must(t, err)
	var all sync.WaitGroup
	defer all.Wait()
	defer captured.Close()
	if captured.Questions != nil {
		captured.Questions.Close() // nobody answers them here
	}
	for _, questions := range captured.DNS {
		all.Go(func() {
			if err := s.ServeUDP(questions); err != nil {
				t.Error(err)
			}
		})
	}
	for _, l := range captured.TCP {
		all.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				all.Go(func() { s.ServeTCP(ctx, c) })
			}
		})
	}
	search := []string{}
	for _, n := range s.directory.Search() {
		search = append(search, n.String())
	}
	must(t, box.Start(search))
	in.Close()
	var text strings.Builder
	buffer := make([]byte, 4096)
	for {
		n, err := out.Read(buffer)
		text.Write(buffer[:n])
		if err != nil {
			break
		}
	}
	if _, err := box.Wait(); err != nil {
		t.Error(err)
	}
	return text.String()
}

// glibc and Go, in a real sandbox with a search list and ndots:5, end at the
// right name.
func TestRealResolversFindWhatIsThere(t *testing.T) {
	names := []string{"ratings", "ratings.default", "billing.shop", "www.example.com", "www.googleapis.com", "nothing", "nothing.default.svc.cluster.local"}
	want := map[string]string{
		"ratings": "ratings.default.svc.cluster.local", "ratings.default": "ratings.default.svc.cluster.local",
		"billing.shop": "billing.shop.svc.cluster.local", "www.example.com": "www.example.com", "www.googleapis.com": "www.googleapis.com",
	}
	check := func(t *testing.T, s *Server, said string) {
		t.Helper()
		for _, name := range names {
			line := ""
			for l := range strings.Lines(said) {
				if strings.HasPrefix(l, name+" ") {
					line = l
				}
			}
			var found *entry
			for n, e := range s.table.byName {
				if n.String() == want[name] {
					found = e
				}
			}
			switch {
			case want[name] == "":
				if strings.Contains(line, "198.19.") || strings.Contains(line, "2001:2:") {
					t.Errorf("%s was found: %s", name, line)
				}
			case found == nil:
				t.Errorf("%s: nobody asked for %s; said %q", name, want[name], line)
			case !strings.Contains(line, addressesOf(found.index).V4.String()) || !strings.Contains(line, addressesOf(found.index).V6.String()):
				t.Errorf("%s: %q, want the addresses of %s", name, line, want[name])
			}
		}
		if n := s.table.Stats().Names; n != 4 {
			t.Errorf("%d names have addresses, want 4", n)
		}
	}
	t.Run("Go", func(t *testing.T) {
		s := newServer(t)
		check(t, s, inSandbox(t, s, []string{lookupVariable + "=" + strings.Join(names, " ")}, "/proc/self/exe"))
	})
	t.Run("glibc", func(t *testing.T) {
		if _, err := exec.LookPath("getent"); err != nil {
			t.Skip("getent (glibc) is missing")
		}
		s := newServer(t)
		script := "for n in " + strings.Join(names, " ") + "; do echo $n $(getent ahostsv4 $n) $(getent ahostsv6 $n); done"
		check(t, s, inSandbox(t, s, nil, "sh", "-c", script))
	})
}
