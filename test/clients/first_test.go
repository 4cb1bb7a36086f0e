package clients

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sluice.dev/sluice/test/mesh"
)

// firsts is how many first connections each resolver makes of each kind of name.
const firsts = 200

// eachResolver runs f with a program that looks names up by glibc, by musl and by Go.
func eachResolver(t *testing.T, s *sandbox, f func(t *testing.T, program string)) {
	build := func(name string, command ...string) {
		t.Run(name, func(t *testing.T) {
			compiler := client(t, command[0])
			program := filepath.Join(t.TempDir(), "first")
			cmd := exec.Command(compiler, append(command[1:], "-o", program)...)
			if name == "Go" {
				cmd = exec.Command(compiler, "build", "-o", program, "./first")
				cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%q: %v\n%s", cmd.Args, err, out)
			}
			// Where the sandbox's user may run it.
			mine := filepath.Join(filepath.Dir(s.Runtime), "first-"+name)
			if out, err := exec.Command("install", "-m", "755", program, mine).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			f(t, mine)
		})
	}
	build("glibc", "gcc", "testdata/first.c")
	build("musl", "musl-gcc", "-static", "testdata/first.c")
	build("Go", "go")
}

// first makes first connections to names and returns those that were not answered 200,
// with all that Sluice said.
func (s *sandbox) first(t *testing.T, allow string, command []string, list []string) (bad []string, r mesh.Result) {
	t.Helper()
	args := []string{"run", "--egress-sockets", s.net.Sockets, "--upstream-ca", s.net.CA, "--resolver", "8.8.8.8"}
	for _, rule := range strings.Fields(allow) {
		args = append(args, "--allow", rule)
	}
	r = s.Run(t, strings.Join(list, "\n")+"\n", "sluice", append(append(args, "--"), command...)...)
	said := map[string]string{}
	for line := range strings.Lines(r.Stdout) {
		name, outcome, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		said[name] = outcome
	}
	for _, name := range list {
		if said[name] != "200" {
			bad = append(bad, name+": "+said[name])
		}
	}
	return bad, r
}

// What a name is to DNS does not matter to a first connection, right after the answer:
// none is denied, and none fails. A search list of three and ndots:5 is in force.
func TestNoFirstConnectionToAnAllowedNameIsDenied(t *testing.T) {
	s := newSandbox(t)
	const server = "45.33.32.156" // answers to any name
	many := []string{server}
	for i := range 999 {
		many = append(many, fmt.Sprintf("45.33.%d.%d", 40+i/250, 1+i%250))
	}
	for i := range 8 {
		s.net.Lie(t, fmt.Sprintf("link%d.cdn.example.org", i), fmt.Sprintf("CNAME link%d.cdn.example.org", i+1))
	}
	s.net.Lie(t, "link8.cdn.example.org", server)
	kinds := []struct {
		name, allow string
		answer      []string
	}{
		{"plain", "*.plain.example.org:80", []string{server}},
		{"alias", "*.alias.example.org:80", []string{"CNAME link0.cdn.example.org"}},
		{"many", "*.many.example.org:80", many},
	}
	lists := map[string][]string{}
	for _, k := range kinds {
		for i := range firsts {
			name := fmt.Sprintf("n%d.%s.example.org", i, k.name)
			s.net.Lie(t, name, k.answer...)
			lists[k.name] = append(lists[k.name], name)
		}
	}
	eachResolver(t, s, func(t *testing.T, program string) {
		for _, k := range kinds {
			if bad, r := s.first(t, k.allow, []string{program}, lists[k.name]); len(bad) > 0 || r.Code != 0 || r.Stderr != "" {
				t.Errorf("%s: exit %d, %d of %d were not answered, such as %q; %s", k.name, r.Code, len(bad), firsts, bad[:min(len(bad), 3)], r.Stderr[:min(len(r.Stderr), 1000)])
			}
		}
	})
}

// A search list that is not the mesh's, as LOCALDOMAIN gives glibc one, does not lead a
// client to a name that is none, with a wildcard on the very suffix as without.
func TestAForeignSearchListLeadsToTheNameThatIsMeant(t *testing.T) {
	s := newSandbox(t)
	const server = "45.33.32.156"
	s.net.Lie(t, "jira.corp.example.org", server)
	s.net.Lie(t, "www.plain.example.org.bucket.corp.example.org", server)
	var list []string
	for i := range firsts {
		name := fmt.Sprintf("n%d.plain.example.org", i)
		s.net.Lie(t, name, server)
		list = append(list, name)
	}
	list = append(list, "jira.corp.example.org", "www.plain.example.org.bucket.corp.example.org")
	eachResolver(t, s, func(t *testing.T, program string) {
		for allow, to := range map[string][]string{
			"*.plain.example.org:80 jira.corp.example.org:80 *.bucket.corp.example.org:80": list,
			"*.plain.example.org:80 *.corp.example.org:80":                                 list,
			"*.plain.example.org:80 *:80":                                                  list[:firsts], // what "*" alone allows, nobody tells from a suffix
		} {
			bad, r := s.first(t, allow, []string{"/usr/bin/env", "LOCALDOMAIN=corp.example.org eu.example.org", program}, to)
			if len(bad) > 0 || r.Code != 0 || r.Stderr != "" {
				t.Errorf("%s: exit %d, %d were not answered, such as %q; %s", allow, r.Code, len(bad), bad[:min(len(bad), 3)], r.Stderr[:min(len(r.Stderr), 1000)])
			}
		}
	})
}

// Two names on one address: what is allowed of one says nothing of the other.
func TestOfTwoNamesOnOneAddressTheAllowedOneIsReached(t *testing.T) {
	s := newSandbox(t)
	var yes, no []string
	for i := range firsts {
		for _, list := range []*[]string{&yes, &no} {
			name := fmt.Sprintf("n%d.%s.example.org", i, map[bool]string{true: "yes", false: "no"}[list == &yes])
			s.net.Lie(t, name, "45.33.32.156")
			*list = append(*list, name)
		}
	}
	eachResolver(t, s, func(t *testing.T, program string) {
		both := append(append([]string(nil), yes...), no[:20]...)
		bad, r := s.first(t, "*.yes.example.org:80", []string{program}, both)
		if r.Code != 0 || len(bad) != 20 || strings.Contains(strings.Join(bad, " "), ".yes.") {
			t.Errorf("exit %d, not answered: %q", r.Code, bad)
		}
		for _, line := range bad {
			if !strings.Contains(line, ".no.example.org: 403") {
				t.Errorf("%s", line)
			}
		}
	})
}

// A service that is found by SRV: its records are answered for a host that a rule allows,
// and each target needs a rule too.
func TestSRVLeadsToTheTargetsThatARuleAllows(t *testing.T) {
	s := newSandbox(t)
	const asked = "_web._tcp.cluster0.example.org"
	s.net.Lie(t, asked, "SRV 0 0 80 a.nodes.example.org", "SRV 1 0 80 b.nodes.example.org")
	for _, name := range []string{"a.nodes.example.org", "b.nodes.example.org"} {
		s.net.Lie(t, name, "45.33.32.156")
	}
	eachResolver(t, s, func(t *testing.T, program string) {
		if !strings.HasSuffix(program, "-Go") {
			t.Skip("the C libraries ask for addresses alone")
		}
		_, r := s.first(t, "cluster0.example.org:80 a.nodes.example.org:80", []string{program}, []string{asked})
		if want := "a.nodes.example.org:80 200\nb.nodes.example.org:80 403\n"; r.Stdout != want {
			t.Errorf("it says %q, want %q", r.Stdout, want)
		}
		if want := "sluice: denied b.nodes.example.org:80 (No rule allows this destination on this port. It is a target of the SRV records of " + asked + ": a target needs a rule of its own.)"; !strings.HasPrefix(r.Stderr, want) {
			t.Errorf("it says\n%s\nwant\n%s", r.Stderr, want)
		}
		_, r = s.first(t, "*.nodes.example.org:80", []string{program}, []string{asked})
		if want := "sluice: not reached " + asked + " by its SRV records (SRV records are answered for hosts that a rule allows: the answer was empty, and no rule names the host)"; !strings.HasPrefix(r.Stderr, want) || strings.Contains(r.Stdout, "200") {
			t.Errorf("it says\n%s%s\nwant\n%s", r.Stdout, r.Stderr, want)
		}
	})
}
