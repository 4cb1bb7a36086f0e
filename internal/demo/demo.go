package demo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"sluice.dev/sluice/internal/paths"
)

// Bounds of the demo's patience.
const (
	readyTime = 30 * time.Second // for everything to be there; a cold machine takes 1 to 3 s
	endTime   = 2 * time.Second  // for everything to end by itself; then it is killed
)

// Config is one demo.
type Config struct {
	Runtime  string // the runtime folder, which exists
	Binaries string // folder of sluice, sluice-server, sluice-proxy, bookinfo, simnet
	Samples  string // folder of the samples, as the user would type it
	Real     bool   // the machine's resolver and internet in place of the small one
	Print    bool   // print the commands, start nothing
	Ingress  string // host:port to try first; "127.0.0.1:8080"
	Out, Err io.Writer
	// Level is how a command can be kept in, and how that was found out.
	Level func(context.Context) (string, error)
}

// Run runs the demo until ctx ends or one of its processes does.
func Run(ctx context.Context, c Config) error {
	p := placesOf(c)
	if c.Print {
		for _, each := range allProcesses(p, c.Real, c.Ingress) {
			fmt.Fprintln(c.Out, each.command())
		}
		return nil
	}
	if err := refuseBeside(c.Runtime); err != nil {
		return err
	}
	level, err := c.Level(ctx)
	if err != nil {
		return err
	}
	if err := makePlaces(p); err != nil {
		return err
	}
	defer removePlaces(p)
	removeDeadSockets(c.Runtime)
	defer removeDeadSockets(c.Runtime)
	ingress, err := freeAddress(c.Ingress)
	if err != nil {
		return err
	}
	began := time.Now()
	g := newGroup(c.Err)
	defer g.end()
	if err := startAll(ctx, g, p, c, ingress); err != nil {
		return err
	}
	url := "http://" + ingress + "/productpage"
	if err := waitForPage(ctx, g, url); err != nil {
		return err
	}
	tell(c, p, url, level, time.Since(began), ingress != c.Ingress)
	select {
	case <-ctx.Done():
		fmt.Fprintln(c.Err, "\nending the demo")
		return nil
	case name := <-g.ended:
		return fmt.Errorf("%s ended; the demo ends with it. What it said: %s", name, g.said(name))
	}
}

// allProcesses is every command of the demo, in the order of their start.
func allProcesses(p places, real bool, ingress string) []process {
	var all []process
	if !real {
		all = append(all, internet(p))
	}
	all = append(all, server(p), dataPlane(p, real, ingress))
	return append(all, bookinfo(p)...)
}

// startAll starts each process once what it needs is there.
func startAll(ctx context.Context, g *group, p places, c Config, ingress string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	if !c.Real {
		if err := g.start(internet(p)); err != nil {
			return err
		}
	}
	if err := g.start(server(p)); err != nil {
		return err
	}
	if !c.Real {
		if err := g.waitFor(ctx, "internet", p.internetSockets(), p.internetCA()); err != nil {
			return err
		}
	}
	if err := g.waitFor(ctx, "sluice-server", filepath.Join(c.Runtime, "push.sock")); err != nil {
		return err
	}
	if err := g.start(dataPlane(p, c.Real, ingress)); err != nil {
		return err
	}
	if err := g.waitFor(ctx, "sluice-proxy", filepath.Join(c.Runtime, "attach.sock")); err != nil {
		return err
	}
	for _, s := range bookinfo(p) {
		if err := g.start(s); err != nil {
			return err
		}
	}
	return nil
}

// refuseBeside refuses to start where a server lives.
func refuseBeside(runtime string) error {
	conn, err := net.DialTimeout("unix", filepath.Join(runtime, "api.sock"), time.Second)
	if err != nil {
		return nil
	}
	conn.Close()
	return fmt.Errorf("a sluice-server lives in %s already; end it first, or set SLUICE_RUNTIME to another folder", runtime)
}

func makePlaces(p places) error {
	if err := os.RemoveAll(p.private); err != nil { // of a demo that was killed
		return fmt.Errorf("clear %s: %w", p.private, err)
	}
	if err := os.MkdirAll(p.private, 0o700); err != nil {
		return fmt.Errorf("make %s: %w", p.private, err)
	}
	if err := os.RemoveAll(p.public); err != nil {
		return fmt.Errorf("clear %s: %w", p.public, err)
	}
	if err := os.Mkdir(p.public, 0o755); err != nil { // Mkdir: a folder that a stranger made first is refused
		return fmt.Errorf("make %s: %w", p.public, err)
	}
	return nil
}

// placesOf is where the demo of a runtime folder has its files. Two runtime
// folders are two demos, which share nothing.
func placesOf(c Config) places {
	runtime := sha256.Sum256([]byte(c.Runtime))
	return places{
		binaries: c.Binaries, private: filepath.Join(c.Runtime, "demo"),
		public: filepath.Join(os.TempDir(), fmt.Sprintf("sluice-demo-%d-%x", os.Getuid(), runtime[:3])),
	}
}

func removePlaces(p places) {
	os.RemoveAll(p.private)
	os.RemoveAll(p.public)
}

// removeDeadSockets removes the sockets of processes that were killed before they
// could: of the demo before this one, for a socket's file says to startAll that
// its process is ready, and of our own.
func removeDeadSockets(runtime string) {
	alive := false
	for _, name := range []string{paths.APISocket, paths.PushSocket, paths.AttachSocket} {
		path := filepath.Join(runtime, name)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if served(path) {
			alive = true
			continue
		}
		paths.RemoveStale(path)
	}
	if !alive {
		paths.ForgetAnnounced(runtime)
	}
}

// served reports whether a process listens on a socket, of whatever type.
func served(path string) bool {
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
	}
	return !errors.Is(err, syscall.ECONNREFUSED)
}

// freeAddress returns the wanted address, or one with another port where that is
// taken.
func freeAddress(wanted string) (string, error) {
	for _, address := range []string{wanted, "127.0.0.1:0"} {
		l, err := net.Listen("tcp", address)
		if err == nil {
			defer l.Close()
			return l.Addr().String(), nil
		}
	}
	return "", errors.New("no port is free for the page")
}

// waitForPage waits until the page shows details, reviews and stars.
func waitForPage(ctx context.Context, g *group, url string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	client := &http.Client{Timeout: 2 * time.Second}
	last := "nothing answered yet"
	for {
		if body, err := page(ctx, client, url); err != nil {
			last = err.Error()
		} else if strings.Contains(body, "Book Details") && strings.Contains(body, "Book Reviews") {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the page at %s did not come: %s", url, last)
		case name := <-g.ended:
			return fmt.Errorf("%s ended at its start: %s", name, g.said(name))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func page(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, strings.TrimSpace(string(body[:min(len(body), 200)])))
	}
	return string(body), err
}
