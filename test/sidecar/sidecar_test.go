// Package sidecar tries sluice-proxy as the sidecar of a Pod: in a network namespace of the
// test's own, with an application, a proxy and a redirect that are real processes of users of
// their own, and a node beside it that is the internet.
package sidecar

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/test/mesh"
)

func TestMain(m *testing.M) {
	if name := os.Getenv(roleVariable); name != "" {
		if err := role(name, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, name+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	status := m.Run()
	mesh.Clean()
	os.Exit(status)
}

const (
	proxyUID       = 1337
	applicationUID = 2000
	proxyGID       = 1<<15 | proxyUID // as sluice kube-inject says it
)

// pod is a Pod with its node, and what runs for it.
type pod struct {
	t       *testing.T
	bin     string
	dir     string // of the server and the proxy
	pid     int    // whose namespace is the Pod's
	node    int    // whose is the node's
	mu      sync.Mutex
	visits  []string // what came to the sites
	mark    io.Writer
	marked  chan struct{}
	sidecar *exec.Cmd
}

func newPod(t *testing.T) *pod {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("requires root: a network namespace with processes of several users")
	}
	for _, tool := range []string{"nsenter", "setpriv"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	dir, err := os.MkdirTemp("", "slp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &pod{t: t, dir: dir, bin: mesh.Binaries(t)}
	for _, folder := range []string{dir, filepath.Join(dir, "run"), filepath.Join(dir, "data"), filepath.Join(dir, "identity")} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(folder, proxyUID, proxyUID); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "identity", "labels"), []byte("app=\"web\"\nversion=\"v1\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	holder, linked, _ := p.namespace("pod")
	p.pid = holder
	nodeID, mark, said := p.namespace("node", fmt.Sprint(holder))
	p.node, p.mark, p.marked = nodeID, mark, make(chan struct{}, 1)
	p.expect(said, "ready")
	go func() {
		defer close(p.marked)
		for said.Scan() {
			if said.Text() == "mark" {
				p.marked <- struct{}{}
				continue
			}
			p.mu.Lock()
			p.visits = append(p.visits, said.Text())
			p.mu.Unlock()
		}
	}()
	fmt.Fprintln(linked, "linked")
	return p
}

// namespace starts a role in a network namespace of its own, which ends with the test.
func (p *pod) namespace(name string, args ...string) (pid int, in io.Writer, said *bufio.Scanner) {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+name)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	in, err := cmd.StdinPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.t.Skip("a network namespace is required: ", err)
	}
	p.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	said = bufio.NewScanner(out)
	if name == "pod" {
		p.expect(said, "begun")
	}
	return cmd.Process.Pid, in, said
}

func (p *pod) expect(said *bufio.Scanner, want string) {
	p.t.Helper()
	if !said.Scan() || said.Text() != want {
		p.t.Fatalf("it says %q, not %q", said.Text(), want)
	}
}

// in is a command in the namespace of a process, as a user without any capability; uid 0 is
// the init container's, with NET_ADMIN alone.
func (p *pod) in(pid, uid int, name string, args ...string) *exec.Cmd {
	return p.inGroup(pid, uid, uid, name, args...)
}

// inGroup is in, as a user in a group.
func (p *pod) inGroup(pid, uid, gid int, name string, args ...string) *exec.Cmd {
	words := []string{"-t", fmt.Sprint(pid), "-n", "--", "setpriv"}
	if uid == 0 {
		words = append(words, "--bounding-set=-all,+net_admin", "--inh-caps=-all")
	} else {
		words = append(words, "--reuid="+fmt.Sprint(uid), "--regid="+fmt.Sprint(gid), "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs")
	}
	cmd := exec.Command("nsenter", append(append(words, "--", name), args...)...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "SLUICE_RUNTIME=" + filepath.Join(p.dir, "run"), "SLUICE_DATA=" + filepath.Join(p.dir, "data"), "POD_NAMESPACE=default"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// self is a role of this binary, copied to where every user may run it.
func (p *pod) self() string {
	path := filepath.Join(p.bin, "role")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	data, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(path, data, 0o755)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return path
}

// do runs a role to its end and returns what it prints.
func (p *pod) do(pid, uid int, role string, args ...string) string {
	p.t.Helper()
	return p.doInGroup(pid, uid, uid, role, args...)
}

// doInGroup is do, as a user in a group.
func (p *pod) doInGroup(pid, uid, gid int, role string, args ...string) string {
	p.t.Helper()
	cmd := p.inGroup(pid, uid, gid, p.self(), args...)
	cmd.Env = append(cmd.Env, roleVariable+"="+role)
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Logf("%s %v: %v", role, args, err)
	}
	return strings.TrimSpace(string(out))
}

// get does one request from a namespace.
func (p *pod) get(pid, uid int, network, url string) (got outcome) {
	p.t.Helper()
	said := p.do(pid, uid, "get", network, url)
	if err := json.Unmarshal([]byte(said), &got); err != nil {
		p.t.Fatalf("get %s: %q", url, said)
	}
	return got
}

// start starts a process and returns when its standard output or error holds a text.
func (p *pod) start(cmd *exec.Cmd, until string) {
	p.t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	write.Close()
	p.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait(); read.Close() })
	found := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(read)
		for lines.Scan() {
			p.t.Log(lines.Text())
			if strings.Contains(lines.Text(), until) {
				select {
				case found <- true:
				default:
				}
			}
		}
		close(found)
	}()
	select {
	case ok := <-found:
		if !ok {
			p.t.Fatalf("%v ended at its start", cmd.Args)
		}
	case <-time.After(time.Minute):
		p.t.Fatalf("%v is not ready", cmd.Args)
	}
}

// sluice runs a command as the proxy's user, which is the server's too.
func (p *pod) sluice(input string, args ...string) string {
	p.t.Helper()
	cmd := p.inGroup(p.node, proxyUID, proxyGID, filepath.Join(p.bin, "sluice"), args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("sluice %v: %v\n%s", args, err, out)
	}
	return string(out)
}

const allowRule = `
apiVersion: sluice.dev/v1alpha1
kind: EgressPolicy
metadata: {name: example}
spec: {to: {hosts: [www.example.com], ports: [{port: 80, protocol: http}]}}
`

// mesh starts the server, the redirect and the sidecar.
func (p *pod) mesh(redirect, sidecar []string) {
	p.t.Helper()
	p.start(p.inGroup(p.node, proxyUID, proxyGID, filepath.Join(p.bin, "sluice-server")), "ready")
	p.sluice(allowRule, "create", "-f", "-")
	if out, err := p.in(p.pid, 0, filepath.Join(p.bin, "sluice-proxy"), append([]string{"redirect", "--proxy-gid", fmt.Sprint(proxyGID)}, redirect...)...).CombinedOutput(); err != nil {
		p.t.Fatalf("redirect: %v\n%s", err, out)
	}
	p.sidecar = p.inGroup(p.pid, proxyUID, proxyGID, filepath.Join(p.bin, "sluice-proxy"), append([]string{"--sidecar",
		"--server", filepath.Join(p.dir, "run", "push.sock"), "--identity-dir", filepath.Join(p.dir, "identity"),
		"--listen", "9080", "--resolver", node4, "--name", "web-1"}, sidecar...)...)
	p.start(p.sidecar, `msg=ready`)
}

// serve starts the application.
func (p *pod) serve(port string) {
	cmd := p.in(p.pid, applicationUID, p.self(), port)
	cmd.Env = append(cmd.Env, roleVariable+"=serve")
	p.start(cmd, "ready")
}

// visited returns what came to the sites since the last call. The node has written it before
// it answered, and before the mark that it repeats; a packet that it is to have refused is
// followed by one that comes through.
func (p *pod) visited() []string {
	p.t.Helper()
	fmt.Fprintln(p.mark, "mark")
	if _, ok := <-p.marked; !ok {
		p.t.Fatal("the node ended")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	visits := p.visits
	p.visits = nil
	return visits
}

// States of a connection as /proc/net/tcp says them.
const (
	established = "01"
	lastACK     = "09"
)

// sites counts the connections at port 80 of the sites that are in a state.
func (p *pod) sites(state string) (n int) {
	p.t.Helper()
	for _, file := range []string{"tcp", "tcp6"} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", p.node, file))
		if err != nil {
			p.t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if f := strings.Fields(line); strings.HasSuffix(f[1], ":0050") && f[3] == state {
				n++
			}
		}
	}
	return n
}

func TestASidecarHoldsWhatItsPodSendsAndCarriesWhatItReceives(t *testing.T) {
	p := newPod(t)
	// Without a redirect the application goes where it likes: what is refused below is not
	// refused by this test's network.
	if got := p.get(p.pid, applicationUID, "tcp6", "http://away.example.com/"); got.Status != 200 {
		t.Fatalf("without a sidecar: %+v", got)
	}
	p.visited()
	p.mesh(nil, nil)
	p.serve("9080")

	for _, family := range []struct{ network, site, pod, synthetic, dns string }{
		{"tcp4", site4, pod4, "198.19.", node4}, {"tcp6", site6, pod6, "2001:2:", node6},
	} {
		t.Run(family.network, func(t *testing.T) {
			if got := p.get(p.pid, applicationUID, family.network, "http://www.example.com/"); got.Status != 200 || !strings.HasPrefix(got.Body, "from ") {
				t.Errorf("an allowed request: %+v", got)
			}
			if visits := p.visited(); len(visits) != 1 || !strings.Contains(visits[0], "request to ") {
				t.Errorf("the site saw %q", visits)
			}
			if got := p.get(p.pid, applicationUID, family.network, "http://away.example.com/"); got.Status == 200 {
				t.Errorf("a denied host: %+v", got)
			}
			if got := p.get(p.pid, applicationUID, family.network, "http://"+net.JoinHostPort(map[string]string{"tcp4": away4, "tcp6": away6}[family.network], "80")+"/"); got.Status == 200 {
				t.Errorf("a denied address: %+v", got)
			}
			if said := p.do(p.pid, applicationUID, "dial", "mp"+family.network, net.JoinHostPort(map[string]string{"tcp4": away4, "tcp6": away6}[family.network], "80")); strings.Contains(said, "200 OK") {
				t.Errorf("by MPTCP: %s", said)
			}
			p.do(p.pid, applicationUID, "dial", strings.Replace(family.network, "tcp", "udp", 1), net.JoinHostPort(family.site, "9999"))
			if said := p.do(p.pid, applicationUID, "lookup", "www.example.com", family.dns); !strings.Contains(said, family.synthetic) {
				t.Errorf("DNS over %s says %s", family.dns, said)
			}
			// Whoever is asked, the sidecar answers.
			if said := p.do(p.pid, applicationUID, "lookup", "www.example.com", family.site); !strings.Contains(said, family.synthetic) {
				t.Errorf("DNS of somebody else says %s", said)
			}
			// An image may have a user of the proxy's number, as those that were made for Istio do:
			// in another group it is held as any other.
			for _, gid := range []int{proxyUID, 0} {
				p.doInGroup(p.pid, proxyUID, gid, "dial", strings.Replace(family.network, "tcp", "udp", 1), net.JoinHostPort(family.site, "9999"))
				if said := p.doInGroup(p.pid, proxyUID, gid, "get", family.network, "http://away.example.com/"); strings.Contains(said, `"Status":200`) { // an id may hold any digits
					t.Errorf("an image's own user %d in group %d: %s", proxyUID, gid, said)
				}
			}
			// The proxy's user is not redirected: that is why status says so, and how its own
			// traffic does not come back to it. Its packet comes behind those that were refused.
			p.doInGroup(p.pid, proxyUID, proxyGID, "dial", strings.Replace(family.network, "tcp", "udp", 1), net.JoinHostPort(family.site, "9999"))
			mesh.Eventually(t, func() string {
				p.mu.Lock()
				defer p.mu.Unlock()
				if len(p.visits) == 0 {
					return "the packet of the proxy's user did not come"
				}
				return ""
			})
			if visits := p.visited(); len(visits) != 1 {
				t.Errorf("the sites saw %q", visits)
			}
			if got := p.get(p.node, applicationUID, family.network, "http://"+net.JoinHostPort(family.pod, "9080")+"/"); got.Body != "application of "+family.pod {
				t.Errorf("from outside, by the sidecar: %+v", got)
			}
			// Nobody on the Pod's link gets anywhere by its sidecar.
			beyond := net.JoinHostPort(map[string]string{"tcp4": beyond4, "tcp6": beyond6}[family.network], "9080")
			if said := p.do(p.node, 0, "reach", family.network, beyond, family.pod); !strings.HasPrefix(said, "error:") {
				t.Errorf("to a foreign address by way of the Pod: %s", said)
			}
			// A port on which nobody listens refuses as it does without a sidecar.
			if said := p.do(p.node, applicationUID, "dial", family.network, net.JoinHostPort(family.pod, "9081")); !strings.Contains(said, "connection refused") {
				t.Errorf("a closed port says %s", said)
			}
			for _, port := range []string{"15001", "15006", "15053"} {
				if said := p.do(p.node, applicationUID, "dial", family.network, net.JoinHostPort(family.pod, port)); !strings.Contains(said, "error:") {
					t.Errorf("port %s of the sidecar says %s", port, said)
				}
			}
			if said := p.do(p.pid, applicationUID, "dial", family.network, net.JoinHostPort(map[string]string{"tcp4": "127.0.0.1", "tcp6": "::1"}[family.network], "15001")); !strings.Contains(said, "error:") {
				t.Errorf("the sidecar's port says to the application %s", said)
			}
			if got := p.get(p.node, applicationUID, family.network, "http://"+net.JoinHostPort(family.pod, "15020")+"/ready"); got.Status != 200 {
				t.Errorf("the start-up probe: %+v", got)
			}
			p.visited()
		})
	}

	status := p.sluice("", "status")
	for _, want := range []string{" sidecar ", "level sidecar: the redirect of the Pod's network namespace holds, unless who may change the Pod gives a container NET_ADMIN, NET_RAW or the proxy's uid"} {
		if !strings.Contains(status, want) {
			t.Errorf("status lacks %q:\n%s", want, status)
		}
	}
	if flows := p.sluice("", "flows"); !strings.Contains(flows, "www.example.com") || !strings.Contains(flows, "away.example.com") || !strings.Contains(flows, "9080") {
		t.Errorf("flows:\n%s", flows)
	}

	// Without its sidecar the Pod is held all the more. What it had open is closed to the end.
	if open := p.sites(established); open == 0 {
		t.Error("the sidecar keeps no connection to the site")
	}
	p.sidecar.Process.Kill()
	p.sidecar.Wait()
	mesh.Eventually(t, func() string {
		if open := p.sites(established) + p.sites(lastACK); open > 0 {
			return fmt.Sprintf("%d connections of the sidecar are not closed at the site", open)
		}
		return ""
	})
	for _, network := range []string{"tcp4", "tcp6"} {
		if got := p.get(p.pid, applicationUID, network, "http://www.example.com/"); got.Status != 0 {
			t.Errorf("without its proxy: %+v", got)
		}
		if said := p.do(p.pid, applicationUID, "dial", network, map[string]string{"tcp4": site4 + ":80", "tcp6": "[" + site6 + "]:80"}[network]); !strings.Contains(said, "connection refused") {
			t.Errorf("without its proxy a connect says %s", said)
		}
	}
	if visits := p.visited(); len(visits) != 0 {
		t.Errorf("without its proxy the sites saw %q", visits)
	}
}

func TestIncludedRangesAreHeldAndTheOthersBypassTheSidecar(t *testing.T) {
	p := newPod(t)
	p.mesh([]string{"--include-ranges", away4 + "/32," + away6 + "/128"}, []string{"--bypassed", "destinations outside " + away4 + "/32"})
	for _, network := range []string{"tcp4", "tcp6"} {
		if got := p.get(p.pid, applicationUID, network, "http://away.example.com/"); got.Status == 200 {
			t.Errorf("an included destination: %+v", got)
		}
		if visits := p.visited(); len(visits) != 0 {
			t.Errorf("it saw %q", visits)
		}
		if got := p.get(p.pid, applicationUID, network, "http://www.example.com/"); got.Status != 200 {
			t.Errorf("another: %+v", got)
		}
		p.visited()
	}
	status := p.sluice("", "status")
	if !strings.Contains(status, " bypassed ") || !strings.Contains(status, "level bypassed: part of the Pod's traffic does not go through its sidecar") {
		t.Errorf("status:\n%s", status)
	}
}

func TestRedirectSaysWhatItLacks(t *testing.T) {
	p := newPod(t)
	for _, c := range []struct {
		uid  int
		args []string
		want string
	}{
		{applicationUID, nil, "operation not permitted"},
		{0, []string{"--proxy-uid", "0"}, "--proxy-uid 0 must be a user other than root"},
		{0, []string{"--proxy-gid", "-1"}, "--proxy-gid -1 is not a group"},
		{0, []string{"--include-ranges", "10.0.0.0"}, `--include-ranges: "10.0.0.0" is not a CIDR such as 10.0.0.0/8`},
		{0, []string{"--exclude-inbound-ports", "0"}, `--exclude-inbound-ports: "0" is not a port from 1 to 65535`},
		{0, []string{"--include-inbound-ports", strings.Repeat("1,", 64) + "1"}, "--include-inbound-ports: at most 64 are supported"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := p.in(p.pid, c.uid, filepath.Join(p.bin, "sluice-proxy"), append([]string{"redirect"}, c.args...)...)
		stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
		out, err := cmd.CombinedOutput()
		stop()
		cancel()
		if err == nil || !bytes.Contains(out, []byte(c.want)) {
			t.Errorf("redirect %v says %v: %s", c.args, err, out)
		}
	}
	for range 2 { // an init container may run again
		if out, err := p.in(p.pid, 0, filepath.Join(p.bin, "sluice-proxy"), "redirect").CombinedOutput(); err != nil {
			t.Errorf("redirect: %v\n%s", err, out)
		}
	}
}
