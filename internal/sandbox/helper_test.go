package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/signaltest"
)

// roleVariable makes the test binary be a command inside a sandbox, or a parent
// of one, instead of running tests.
const roleVariable = "SANDBOX_TEST_ROLE"

// asUserVariable is set in the second run, as an ordinary user, to the folder of
// what that run needs.
const asUserVariable = "SANDBOX_TEST_AS_USER"

func TestMain(m *testing.M) {
	Init()
	if name := os.Getenv(roleVariable); name != "" {
		role, ok := roles[name]
		if !ok {
			fmt.Fprintln(os.Stderr, "no role", name)
			os.Exit(99)
		}
		os.Exit(role(os.Args[1:]))
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")) // else each process that we start sleeps a second at its end
	signaltest.Default()
	os.Exit(m.Run())
}

// probed asks the machine once: it does not change its mind.
var probed = sync.OnceValue(func() error { return Probe(context.Background()) })

// needSandbox skips where this machine gives no sandbox, but fails in CI.
func needSandbox(t testing.TB) {
	t.Helper()
	if err := probed(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// ordinaryUser is who the tests are when root runs them again.
const ordinaryUser = 1000

func TestEverythingAgainAsAnOrdinaryUser(t *testing.T) {
	if os.Getenv(asUserVariable) != "" {
		t.Skip("this is that run")
	}
	if os.Geteuid() != 0 {
		t.Skip("the first run was as an ordinary user")
	}
	needSandbox(t)
	// The folder of go test is root's alone, and so is TempDir's.
	folder, err := os.MkdirTemp("/tmp", "sandbox-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	binary := filepath.Join(folder, "sandbox.test")
	copyFile(t, "/proc/self/exe", binary)
	if err := errors.Join(os.Chmod(folder, 0o755), os.Chmod(binary, 0o755)); err != nil {
		t.Fatal(err)
	}
	temporary := filepath.Join(folder, "tmp")
	if err := errors.Join(os.Mkdir(temporary, 0o700), os.Chown(temporary, ordinaryUser, ordinaryUser)); err != nil {
		t.Fatal(err)
	}
	copyFile(t, filepath.Join("testdata", waitsScript), filepath.Join(folder, waitsScript))
	arguments := []string{"-test.v", "-test.timeout=20m"}
	if testing.Short() {
		arguments = append(arguments, "-test.short")
	}
	command := exec.CommandContext(t.Context(), binary, arguments...)
	command.Dir = temporary
	command.Env = append(os.Environ(), asUserVariable+"="+folder, "TMPDIR="+temporary, "HOME="+temporary)
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinaryUser, Gid: ordinaryUser}}
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("as user %d: %v\n%s", ordinaryUser, err, output)
	}
	if testing.Verbose() {
		t.Logf("as user %d:\n%s", ordinaryUser, output)
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, content, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// place is a sandbox with a proxy of the test, which answers every connection
// with where it was meant to go.
type place struct {
	*Sandbox
	capture *capture.Capture
	output  chan string // what the command wrote, once

	mu        sync.Mutex
	connected []netip.AddrPort
	asked     []string
	served    sync.WaitGroup
}

// newPlace makes the sandbox; its command's output is collected. Config's
// command is a role where it has no slash and roles has it.
func newPlace(t testing.TB, config Config) *place {
	t.Helper()
	p := newPlaceWhoAsks(t, config)
	if p.capture.Questions != nil {
		p.capture.Questions.Close()
	}
	return p
}

// newPlaceWhoAsks is newPlace for who answers the Questions of its sandbox.
func newPlaceWhoAsks(t testing.TB, config Config) *place {
	t.Helper()
	needSandbox(t)
	config = withRole(t, config)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if config.Stdout == nil {
		config.Stdout = write
	}
	if config.Stderr == nil {
		config.Stderr = write
	}
	s, err := New(t.Context(), config)
	write.Close()
	if err != nil {
		read.Close()
		t.Fatal(err)
	}
	p := &place{Sandbox: s, output: make(chan string, 1)}
	p.served.Go(func() {
		all, _ := io.ReadAll(read)
		read.Close()
		p.output <- string(all)
	})
	p.serve(t)
	t.Cleanup(func() {
		p.Kill()
		p.Wait()
		p.capture.Close()
		p.served.Wait()
	})
	return p
}

func withRole(t testing.TB, config Config) Config {
	t.Helper()
	if _, ok := roles[config.Command[0]]; ok {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		if config.Env == nil {
			config.Env = os.Environ()
		}
		config.Env = append(slices.Clone(config.Env), roleVariable+"="+config.Command[0])
		config.Command = append([]string{self}, config.Command[1:]...)
	}
	return config
}

func (p *place) serve(t testing.TB) {
	t.Helper()
	c, err := capture.FromFiles(p.Files())
	if err != nil {
		t.Fatal(err)
	}
	p.capture = c
	for _, listener := range c.TCP {
		p.served.Go(func() {
			for {
				conn, err := listener.AcceptTCP()
				if err != nil {
					return
				}
				p.served.Go(func() { p.answer(conn) })
			}
		})
	}
	for _, conn := range c.DNS {
		p.served.Go(func() {
			var q capture.Question
			for capture.ReadQuestion(conn, &q) == nil {
				capture.WriteAnswer(conn, p.resolve(q.Data, q.Asked), q.Asked, q.From)
			}
		})
	}
}

// reached are the destinations that were connected to so far.
func (p *place) reached() []netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.connected)
}

func (p *place) answer(conn *net.TCPConn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(eventuallyWithin))
	destination := capture.OriginalDestination(conn)
	if capture.Local(destination) {
		conn.SetLinger(0)
		return
	}
	p.mu.Lock()
	p.connected = append(p.connected, destination)
	p.mu.Unlock()
	if destination.Port() == 53 {
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		question := make([]byte, int(length[0])<<8|int(length[1]))
		if _, err := io.ReadFull(conn, question); err != nil {
			return
		}
		answer := p.resolve(question, destination)
		conn.Write(append([]byte{byte(len(answer) >> 8), byte(len(answer))}, answer...))
		return
	}
	for lines := bufio.NewScanner(conn); lines.Scan() && lines.Text() != ""; {
	}
	body := "you meant " + destination.String() + "\n"
	fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
}

var answered = netip.MustParseAddr("198.19.0.7")

// resolve answers every question for A with one address.
func (p *place) resolve(question []byte, asked netip.AddrPort) []byte {
	var message dnsmessage.Message
	if message.Unpack(question) != nil || len(message.Questions) != 1 {
		return nil
	}
	q := message.Questions[0]
	p.mu.Lock()
	p.asked = append(p.asked, fmt.Sprintf("%s of %s", q.Name, asked))
	p.mu.Unlock()
	message.Response, message.RecursionAvailable, message.Additionals = true, true, nil
	if q.Type == dnsmessage.TypeA {
		message.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1},
			Body:   &dnsmessage.AResource{A: answered.As4()},
		}}
	}
	answer, err := message.Pack()
	if err != nil {
		return nil
	}
	return answer
}

// run starts the command and returns its output and status.
func (p *place) run(t testing.TB, search ...string) (output string, exit int) {
	t.Helper()
	if err := p.Start(search); err != nil {
		t.Fatal(err)
	}
	exit, err := p.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return <-p.output, exit
}

// inside runs a role or program in a sandbox of its own.
func inside(t testing.TB, command ...string) (output string, exit int, p *place) {
	t.Helper()
	p = newPlace(t, Config{Command: command})
	output, exit = p.run(t)
	return output, exit, p
}

// eventuallyWithin bounds every wait; none of them is to last, but on a machine
// that does much else.
const eventuallyWithin = time.Minute

// eventually waits for what other processes do.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(eventuallyWithin)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", eventuallyWithin, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func needProgram(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skip(err)
	}
}

func short(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), eventuallyWithin)
	t.Cleanup(cancel)
	return ctx
}

func lines(text string) []string { return strings.Split(strings.TrimSpace(text), "\n") }

// nestedFlags is the flag with which unshare makes user and mount namespaces in which a
// program has every capability: uid 0 without CAP_SETFCAP may not be root there.
func nestedFlags() string {
	if os.Geteuid() == 0 {
		return "-Um"
	}
	return "-Urm"
}
