package capture

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture/seqpacket"
)

// roleVariable makes the test binary work inside a namespace instead of testing.
const roleVariable = "CAPTURE_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "":
		os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")) // else each process that we start sleeps a second at its end
		os.Exit(m.Run())
	case "captured":
		os.Exit(capturedRole())
	case "without-cookie":
		os.Exit(withoutCookieRole())
	case "rules":
		os.Exit(rulesRole())
	case "internet":
		os.Exit(internetRole(os.Args[1]))
	}
	os.Exit(99)
}

// namespace starts a role in a network namespace of its own; ending its standard
// input ends it.
func namespace(t testing.TB, role string, extra *os.File, args ...string) *exec.Cmd {
	t.Helper()
	return namespaceInto(t, role, nil, extra, args...)
}

// namespaceInto is namespace with a place for what the role says.
func namespaceInto(t testing.TB, role string, into, extra *os.File, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(self, args...)
	command.Env = append(os.Environ(), roleVariable+"="+role)
	command.Stderr = os.Stderr
	if into != nil {
		command.Stdout = into
	}
	if extra != nil {
		command.ExtraFiles = []*os.File{extra}
	}
	if _, err := command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWNET | unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_NET_BIND_SERVICE, unix.CAP_SYS_ADMIN},
	}
	if err := command.Start(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	t.Cleanup(func() { command.Process.Kill(); command.Wait() })
	return command
}

// captured returns the capture of a new namespace, and the process in it.
func captured(t testing.TB, wanted string) (*Capture, *exec.Cmd) {
	t.Helper()
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	command := namespace(t, "captured", theirs, wanted)
	theirs.Close()
	var outcome string
	fds, err := seqpacket.Receive(ours, &outcome, MaxFiles)
	if err != nil || outcome != "" {
		t.Fatal(err, outcome)
	}
	c, err := FromFiles(asFiles(fds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, command
}

func asFiles(fds []int) (files []*os.File) {
	for _, fd := range fds {
		files = append(files, os.NewFile(uintptr(fd), "test"))
	}
	return files
}

// capturedRole sets its namespace up, hands the sockets over and then connects
// to what it is sent.
func capturedRole() int {
	wanted := os.Args[1]
	if wanted == "without-ipv6" {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	parent, err := seqpacket.Conn(3)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	files, inside, err := SetUpNamespace(Options{})
	if err != nil {
		seqpacket.Send(parent, err.Error())
		return 1
	}
	var fds []int
	for _, file := range files {
		fds = append(fds, int(file.Fd()))
	}
	seqpacket.Send(parent, "", fds...)
	CloseFiles(files)
	if wanted == "silent" { // nobody serves its sockets
		os.Stdin.Read(make([]byte, 1))
		return 0
	}
	if wanted == "serve" {
		listener, err := net.Listen("tcp", "0.0.0.0:9080")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, r.RemoteAddr)
		}))
		full(20000)
	}
	go ServeSockets(inside.Sockets)
	if wanted == "dial" || wanted == "without-ipv6" {
		for _, address := range []string{"192.0.2.1:80", "[2001:db8::1]:80"} {
			if conn, err := net.DialTimeout("tcp", address, patience); err == nil {
				conn.Close()
			}
		}
	}
	os.Stdin.Read(make([]byte, 1))
	return 0
}

// full listens on a port whose queue is full, so that a connect hangs.
func full(port int) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	address := &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	if err == nil {
		err = unix.Bind(fd, address)
	}
	if err == nil {
		err = unix.Listen(fd, 0)
	}
	for range 4 {
		client, _ := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		unix.Connect(client, address)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// internetRole owns every address, serves on two of them, and serves sockets at
// a path.
func internetRole(path string) int {
	if _, err := SetUpAnyIP(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	web, err := net.Listen("tcp", "142.250.74.74:80")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go http.Serve(web, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RemoteAddr) }))
	packets, err := net.ListenPacket("udp", "8.8.8.8:53")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go func() {
		buffer := make([]byte, 512)
		for {
			n, from, err := packets.ReadFrom(buffer)
			if err != nil {
				return
			}
			packets.WriteTo(buffer[:n], from)
		}
	}()
	os.Remove(path)
	listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for {
		conn, err := listener.AcceptUnix()
		if err != nil {
			return 1
		}
		go ServeSockets(conn)
	}
}

func countDescriptors() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

// patience bounds waits that end as soon as the other side has done its part.
const patience = time.Minute

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func TestEverythingAgainAsAnOrdinaryUser(t *testing.T) {
	const user = 1000
	if os.Geteuid() != 0 {
		t.Skip("this is that run")
	}
	folder, err := os.MkdirTemp("/tmp", "capture-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	binary := filepath.Join(folder, "capture.test")
	content, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(binary, content, 0o755)
	}
	if err == nil {
		err = os.Chmod(folder, 0o755)
	}
	temporary := filepath.Join(folder, "tmp")
	if err == nil {
		err = os.Mkdir(temporary, 0o700)
	}
	if err == nil {
		err = os.Chown(temporary, user, user)
	}
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), binary, "-test.v", "-test.timeout=10m", "-test.skip=Shape") // whose lists are not there
	command.Dir = temporary
	command.Env = append(slices.Clone(os.Environ()), "TMPDIR="+temporary)
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	if output, err := command.CombinedOutput(); err != nil || strings.Contains(string(output), "--- FAIL") {
		t.Fatalf("as user %d: %v\n%s", user, err, output)
	}
}
