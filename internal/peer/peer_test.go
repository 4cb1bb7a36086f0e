package peer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/sandbox"
)

// roleVariable makes the test binary connect, as a peer of some kind.
const roleVariable = "PEER_TEST_ROLE"

func TestMain(m *testing.M) {
	sandbox.Init()
	role := os.Getenv(roleVariable)
	if role == "" {
		os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")) // else each process that we start sleeps a second at its end
		os.Exit(m.Run())
	}
	switch role {
	case "undumpable":
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	case "server": // says what it thinks of its first peer
		listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: os.Args[1], Net: "unix"})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("listens")
		listener.SetDeadline(time.Now().Add(patience))
		conn, err := listener.AcceptUnix()
		if err == nil {
			err = Check(conn)
		}
		fmt.Println(err)
		os.Exit(0)
	case "filtered": // a filter that allows everything is one filter more
		unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		allow := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}
		installOnAllThreads(&unix.SockFprog{Len: 1, Filter: &allow})
	}
	conn, err := net.Dial("unix", os.Args[1])
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if role == "dying" {
		os.Exit(0)
	}
	conn.SetReadDeadline(time.Now().Add(patience))
	io.ReadAll(conn) // until the test has looked at us
	os.Exit(0)
}

// patience bounds waits that end as soon as the other side has done its part.
const patience = 60 * time.Second

// socketFor listens where every user may connect; the test asks Check.
func socketFor(t *testing.T) (*net.UnixListener, string) {
	t.Helper()
	path := pathFor(t)
	return listen(t, path), path
}

func pathFor(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("/tmp", "peer-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(folder, "s")
}

func listen(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	return listener
}

func accept(t *testing.T, listener *net.UnixListener) *net.UnixConn {
	t.Helper()
	listener.SetDeadline(time.Now().Add(patience))
	conn, err := listener.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// binary is a copy of the test that every user may execute.
func binary(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("/tmp", "peer-binary-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	path := filepath.Join(folder, "peer.test")
	content, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = errors.Join(os.WriteFile(path, content, 0o755), os.Chmod(folder, 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func inUserNamespace() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
	}
}

// older is a kernel before 6.5 and 6.11.
type older struct{}

func (older) pidfd(_, pid int) (int, error)                { return unix.PidfdOpen(pid, 0) }
func (older) namespace(int, namespaceKind) (string, error) { return "", unix.ENOTTY }

func TestOnlyOurOwnUserOutsideOfEveryNamespaceIsAccepted(t *testing.T) {
	self := binary(t)
	asRoot := os.Geteuid() == 0
	for _, test := range []struct {
		name       string
		role       string
		attributes *syscall.SysProcAttr
		want       error
		needsRoot  bool
	}{
		{"an ordinary process", "plain", nil, nil, false},
		{"a user namespace", "plain", inUserNamespace(), ErrNamespace, false},
		{"more seccomp filters", "filtered", nil, ErrSeccomp, false},
		{"another user", "plain", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}, ErrUser, true},
		{"a PID namespace", "plain", &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}, ErrNamespace, true},
	} {
		for kernelName, k := range map[string]kernel{"": system{}, " on an older kernel": older{}} {
			t.Run(test.name+kernelName, func(t *testing.T) {
				if test.needsRoot && !asRoot {
					t.Skip("needs root")
				}
				listener, path := socketFor(t)
				command := exec.Command(self, path)
				command.Env = append(os.Environ(), roleVariable+"="+test.role)
				command.SysProcAttr = test.attributes
				if err := command.Start(); err != nil {
					if test.attributes == nil || os.Getenv("CI") == "true" {
						t.Fatal(err)
					}
					t.Skip(err) // no such namespace here
				}
				defer command.Wait()
				conn := accept(t, listener)
				defer conn.Close()
				err := checkWith(conn, k)
				if !errors.Is(err, test.want) && !(k == older{} && errors.Is(err, ErrUnknowable) && test.want != nil) {
					t.Errorf("%v, want %v", err, test.want)
				}
			})
		}
	}
}

func checkWith(conn *net.UnixConn, k kernel) (verdict error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	if err := raw.Control(func(fd uintptr) { verdict = check(int(fd), k) }); err != nil {
		return err
	}
	return verdict
}

// Root's uid proves nothing to a user: a command that root confined shows it too.
func TestRootDoesNotCommandAUsersServer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	folder, err := os.MkdirTemp("/tmp", "peer-server-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "s")
	command := exec.Command(binary(t), path)
	command.Env = append(os.Environ(), roleVariable+"=server")
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer command.Wait()
	lines := bufio.NewScanner(output)
	if !lines.Scan() || lines.Text() != "listens" {
		t.Fatalf("the server said %q", lines.Text())
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if !lines.Scan() || !strings.Contains(lines.Text(), ErrUser.Error()) || !strings.Contains(lines.Text(), "uid 0") {
		t.Errorf("a user's server says of root: %s", lines.Text())
	}
}

func TestAPeerThatIsGoneIsRefused(t *testing.T) {
	listener, path := socketFor(t)
	command := exec.Command(binary(t), path)
	command.Env = append(os.Environ(), roleVariable+"=dying")
	if err := command.Run(); err != nil {
		t.Fatal(err)
	}
	for _, k := range []kernel{system{}, older{}} {
		if err := checkWith(accept(t, listener), k); !errors.Is(err, ErrUnknowable) {
			t.Errorf("%T: %v", k, err)
		}
		if (k == system{}) {
			again := exec.Command(command.Path, path)
			again.Env = command.Env
			if err := again.Run(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestACommandInASandboxIsRefused(t *testing.T) {
	for _, userNamespace := range []bool{false, true} {
		t.Run(fmt.Sprintf("user namespace %v", userNamespace), func(t *testing.T) {
			path := pathFor(t)
			listener := listen(t, path)
			s, err := sandbox.New(t.Context(), sandbox.Config{
				Command: []string{binary(t), path}, Env: append(os.Environ(), roleVariable+"=plain"), UserNamespace: userNamespace,
				Unix: []string{path}, // so that only the check stands between
			})
			if err != nil {
				if os.Getenv("CI") == "true" {
					t.Fatal(err)
				}
				t.Skip(err)
			}
			defer s.Wait()
			defer s.Kill()
			capture.CloseFiles(s.Files())
			if err := s.Start(nil); err != nil {
				t.Fatal(err)
			}
			conn := accept(t, listener)
			for _, k := range []kernel{system{}, older{}} {
				if err := checkWith(conn, k); !errors.Is(err, ErrNamespace) && !errors.Is(err, ErrUnknowable) {
					t.Errorf("%T: %v", k, err)
				}
			}
		})
	}
}
