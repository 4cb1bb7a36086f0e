package clients

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/test/mesh"
)

// world is a small internet with the servers of the table, each started when the
// first row needs it, and the two users as whom rows run.
type world struct {
	t       *testing.T // whose end ends the servers
	user    *mesh.Place
	root    *mesh.Place // nil where we are not root
	net     *mesh.Internet
	dir     string // of the servers, which any user may enter
	path    string
	ca      string // of the internet, readable by all
	wgetrc  string // names it
	env     []string
	started map[string]bool
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, started: make(map[string]bool)}
	users := mesh.Users(t)
	if last := users[len(users)-1]; last.UID >= 0 {
		w.root = mesh.NewPlace(t, users[0])
		// ssh, and PostgreSQL's initdb, want a user with a name.
		if err := exec.Command("setpriv", append(mesh.AsUser(last.UID)[1:], "id", "-un")...).Run(); err != nil {
			t.Log("the user 1000 has no name here: all rows run as root")
			users = users[:1]
		}
	} else if os.Geteuid() == 0 {
		w.root = mesh.NewPlace(t, last)
	}
	w.user = mesh.NewPlace(t, users[len(users)-1])
	w.net = w.user.StartInternet(t)
	w.ca = w.net.CA
	w.dir = w.folder(t, w.user, "servers")
	w.path, w.wgetrc = w.searchPath(t), filepath.Join(w.dir, "wgetrc")
	w.write(t, w.user, w.wgetrc, "ca_certificate = "+w.ca+"\n", 0o644)
	return w
}

// folder makes a folder of a place's user.
func (w *world) folder(t *testing.T, p *mesh.Place, name string) string {
	t.Helper()
	dir := filepath.Join(filepath.Dir(p.Runtime), name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w.own(t, p, dir)
	return dir
}

// own gives files to a place's user.
func (w *world) own(t *testing.T, p *mesh.Place, paths ...string) {
	t.Helper()
	if p.User.UID < 0 {
		return
	}
	for _, path := range paths {
		if err := os.Chown(path, p.User.UID, p.User.UID); err != nil {
			t.Fatal(err)
		}
	}
}

// write makes a file of a place's user.
func (w *world) write(t *testing.T, p *mesh.Place, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	w.own(t, p, path)
}

// searchPath is where clients are looked for: Sluice's own binaries, what
// `make test-clients` installed, the system's, and where else ours are.
func (w *world) searchPath(t *testing.T) string {
	t.Helper()
	root, err := mesh.Root()
	if err != nil {
		t.Fatal(err)
	}
	built := filepath.Join(root, ".build", "clients")
	dirs := []string{w.user.Bin, filepath.Join(built, "python", "bin"), filepath.Join(built, "bin"),
		"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}
	// The toolchain itself, and not rustup's stand-in, which looks into the home.
	if at, err := exec.Command("rustup", "which", "cargo").Output(); err == nil {
		dirs = append(dirs, filepath.Dir(string(at)))
	}
	if at, err := exec.LookPath("go"); err == nil {
		dirs = append(dirs, filepath.Dir(at))
	}
	return strings.Join(dirs, ":")
}

// find is where a program of a server is.
func (w *world) find(t *testing.T, program string) string {
	t.Helper()
	for _, dir := range append(strings.Split(w.path, ":"), "/usr/lib/rabbitmq/bin", "/usr/lib/git-core") {
		if at := filepath.Join(dir, program); exec.Command("test", "-x", at).Run() == nil {
			return at
		}
	}
	missing(t, "the server "+program)
	return ""
}

// once starts a server the first time that a row needs it.
func (w *world) once(t *testing.T, name string, start func()) {
	t.Helper()
	up, tried := w.started[name]
	if !tried {
		w.started[name] = false
		start()
		w.started[name] = true
	} else if !up {
		t.Fatalf("%s did not start for an earlier client", name)
	}
}

// daemon starts a server that ends with the world.
func (w *world) daemon(env []string, program string, args ...string) {
	w.user.Background(w.t, append([]string{"PATH=" + w.path, "HOME=" + w.dir}, env...), program, args...)
}

// must runs a command outside of every sandbox, as the world's user.
func (w *world) must(t *testing.T, dir string, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*mesh.Patience)
	defer cancel()
	cmd := w.user.Command(ctx, program, args...)
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + w.path, "HOME=" + w.dir, "LANG=C.UTF-8"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
	return string(out)
}

// listen publishes a port of a name and returns where its connections come.
func (w *world) listen(name string, port uint16) net.Listener {
	w.t.Helper()
	socket := filepath.Join(w.dir, fmt.Sprintf("%s.%d", name, port))
	l, err := net.Listen("unix", socket)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	if err := os.Chmod(socket, 0o777); err != nil {
		w.t.Fatal(err)
	}
	w.net.Publish(w.t, name, port, socket)
	return l
}

// https serves a name on 443 with a certificate of the internet's CA.
func (w *world) https(name string, handler http.Handler) {
	w.t.Helper()
	pair := w.net.Certificate(w.t, name)
	certificate, err := tls.X509KeyPair(pair, pair)
	if err != nil {
		w.t.Fatal(err)
	}
	server := &http.Server{Handler: handler, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}}
	go server.ServeTLS(w.listen(name, 443), "", "")
}

// plain serves a name on 80.
func (w *world) plain(name string, handler http.Handler) {
	w.t.Helper()
	go http.Serve(w.listen(name, 80), handler)
}

// bridge publishes a port of a name whose server listens on this machine's loopback.
func (w *world) bridge(name string, port uint16, address string) {
	w.t.Helper()
	w.accept(name, port, func(c net.Conn) {
		to, err := net.Dial("tcp", address)
		if err != nil {
			c.Close()
			return
		}
		go func() { io.Copy(to, c); to.(*net.TCPConn).CloseWrite() }()
		io.Copy(c, to)
		c.Close()
		to.Close()
	})
}

// accept publishes a port of a name, whose connections serve takes and closes.
func (w *world) accept(name string, port uint16, serve func(net.Conn)) {
	w.t.Helper()
	l := w.listen(name, port)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
}

// await waits until somebody listens.
func (w *world) await(t *testing.T, network, address string) {
	t.Helper()
	w.untilUp(t, func() error {
		c, err := net.Dial(network, address)
		if err == nil {
			c.Close()
		}
		return err
	})
}

// untilUp waits for a server, of which some take minutes on a machine that does much else.
func (w *world) untilUp(t *testing.T, look func() error) {
	t.Helper()
	for deadline := time.Now().Add(startPatience); ; time.Sleep(20 * time.Millisecond) {
		err := look()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %v", startPatience, err)
		}
	}
}

const startPatience = 4 * mesh.Patience

// freePort is a port of the loopback on which nobody listens.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
