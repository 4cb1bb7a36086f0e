// Package install tries make install and what it installs: the list of files, the
// units, and that the services run with what their units leave them.
package install

import (
	"bytes"
	"context"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice.dev/sluice/test/bare"
	"sluice.dev/sluice/test/mesh"
)

// patience bounds one step; a loaded machine takes a while.
const patience = 2 * time.Minute

var programs = []string{"kubectl-sluice", "sluice", "sluice-proxy", "sluice-server", "sluice-top"}

func TestMain(m *testing.M) {
	bare.Main()
	os.Exit(m.Run())
}

func TestInstallAndItsServices(t *testing.T) {
	bin := mesh.Build(t, "./cmd/...")
	t.Run("uninstall removes exactly what install wrote", func(t *testing.T) { uninstall(t, bin) })
	t.Run("an install takes away what an earlier one wrote and it does not", func(t *testing.T) { again(t, bin) })
	t.Run("systemd accepts the units", func(t *testing.T) { verify(t, bin) })
	t.Run("the services run without any capability and tell systemd their states", func(t *testing.T) { services(t, bin) })
}

// runMake runs a target with the built programs.
func runMake(t *testing.T, bin string, args ...string) string {
	t.Helper()
	root, err := mesh.Root()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("make is missing")
	}
	cmd := exec.Command("make", append([]string{"-s", "-C", root, "BIN=" + bin}, args...)...)
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("make %v: %v\n%s", args, err, said)
	}
	return string(said)
}

// within lists what is in a folder, folders with a / behind.
func within(t *testing.T, folder string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path = strings.TrimPrefix(path, folder)
		if entry.IsDir() {
			path += "/"
		}
		all = append(all, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// inhabited is a root in which something of others is.
func inhabited(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, file := range []string{"usr/bin/other", "usr/share/man/man1/other.1"} {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func uninstall(t *testing.T, bin string) {
	root := inhabited(t)
	before := within(t, root)
	runMake(t, bin, "install", "DESTDIR="+root, "PREFIX=/usr")
	list, err := os.ReadFile(filepath.Join(root, "usr/share/sluice/installed"))
	if err != nil {
		t.Fatal(err)
	}
	listed := strings.Fields(string(list))
	slices.Sort(listed)
	added := slices.DeleteFunc(within(t, root), func(path string) bool { return slices.Contains(before, path) })
	if !slices.Equal(added, listed) {
		t.Errorf("it wrote\n%s\nand listed\n%s", strings.Join(added, "\n"), strings.Join(listed, "\n"))
	}
	for _, program := range programs {
		if !slices.Contains(listed, "/usr/bin/"+program) {
			t.Errorf("%s is missing", program)
		}
	}
	for _, page := range []string{"man1/sluice.1", "man1/sluice-run.1", "man1/kubectl-sluice.1", "man8/sluice-server.8", "man8/sluice-proxy.8"} {
		text, err := os.ReadFile(filepath.Join(root, "usr/share/man", page))
		if err != nil || !strings.Contains(string(text), "\n.SH NAME\n") {
			t.Errorf("%s: %v %.80q", page, err, text)
		}
	}
	runMake(t, bin, "uninstall", "DESTDIR="+root, "PREFIX=/usr")
	if after := within(t, root); !slices.Equal(after, before) {
		t.Errorf("uninstall left\n%s\nof\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
}

func again(t *testing.T, bin string) {
	root := inhabited(t)
	before := within(t, root)
	runMake(t, bin, "install", "DESTDIR="+root)
	list := filepath.Join(root, "usr/local/share/sluice/installed")
	old := filepath.Join(root, "usr/local/bin/sluice-old")
	file, err := os.OpenFile(list, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString("/usr/local/bin/sluice-old\n"); err != nil {
		t.Fatal(err)
	}
	file.Close()
	if err := os.WriteFile(old, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	runMake(t, bin, "install", "DESTDIR="+root)
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("a program that an earlier install wrote is there still: %v", err)
	}
	runMake(t, bin, "uninstall", "DESTDIR="+root)
	if after := within(t, root); !slices.Equal(after, before) {
		t.Errorf("uninstall left\n%s", strings.Join(after, "\n"))
	}
}

// filtering are the settings for which systemd installs a seccomp filter or makes a
// user or PID namespace (systemd.exec(5)): a service with one refuses every client,
// which has none (internal/peer).
var filtering = regexp.MustCompile(`(?m)^(SystemCall\w+|Restrict(AddressFamilies|Namespaces|Realtime|SUIDSGID)|LockPersonality|MemoryDenyWriteExecute|ProtectKernel\w+|ProtectClock|ProtectHostname|PrivateDevices|PrivateUsers|PrivatePIDs)=`)

func verify(t *testing.T, bin string) {
	prefix := t.TempDir()
	runMake(t, bin, "install", "PREFIX="+prefix)
	units, err := filepath.Glob(filepath.Join(prefix, "lib/systemd/*/*.service"))
	if err != nil || len(units) != 4 {
		t.Fatalf("%v %v: want four units", units, err)
	}
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		if found := filtering.Find(text); found != nil {
			t.Errorf("%s has %s, with which it would refuse its clients", unit, found)
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze (systemd) is missing")
	}
	for _, kind := range []string{"system", "user"} {
		folder := filepath.Join(prefix, "lib/systemd", kind)
		// User units are verified by the system's manager too: a user's own needs a login.
		cmd := exec.Command(analyze, "verify", "--man=no", filepath.Join(folder, "sluice-server.service"), filepath.Join(folder, "sluice-proxy.service"))
		cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+folder+":")
		said, err := cmd.CombinedOutput()
		if err != nil || strings.Contains(string(said), "sluice-") {
			t.Errorf("systemd-analyze verify of the %s units: %v\n%s", kind, err, said)
		}
	}
	// Without filters and namespaces 5.5 is what can be had; none at all is 9.2.
	units = []string{filepath.Join(prefix, "lib/systemd/system/sluice-server.service"), filepath.Join(prefix, "lib/systemd/system/sluice-proxy.service")}
	said, err := exec.Command(analyze, append([]string{"security", "--offline=true", "--threshold=58", "--no-pager"}, units...)...).CombinedOutput()
	if strings.Contains(string(said), "unrecognized option") {
		t.Skip("this systemd-analyze cannot look at files (it is older than 250)")
	}
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, said)
	}
}

// confined is how a unit's process runs: as a user, with no capability and no way to
// get one.
func confined(ctx context.Context, program string, args ...string) *exec.Cmd {
	argv := append([]string{program}, args...)
	if os.Geteuid() == 0 {
		argv = append([]string{"setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--bounding-set=-all", "--no-new-privs", "--"}, argv...)
	}
	return exec.CommandContext(ctx, argv[0], argv[1:]...)
}

func services(t *testing.T, bin string) {
	if os.Geteuid() == 0 {
		if _, err := exec.LookPath("setpriv"); err != nil {
			t.Skip("setpriv (util-linux) is missing")
		}
	}
	base, err := os.MkdirTemp("", "sli") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	notified := filepath.Join(base, "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notified, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	runtime, data := filepath.Join(base, "run"), filepath.Join(base, "data")
	for _, folder := range []string{runtime, data} { // as RuntimeDirectory= and StateDirectory= do
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if os.Geteuid() == 0 {
		if err := os.Chmod(base, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{runtime, data, notified} {
			if err := os.Chown(path, 1000, 1000); err != nil {
				t.Fatal(err)
			}
		}
	}
	environment := append(os.Environ(), "SLUICE_RUNTIME="+runtime, "SLUICE_DATA="+data, "NOTIFY_SOCKET="+notified, "HOME="+base)
	said := func() string {
		_ = socket.SetReadDeadline(time.Now().Add(patience))
		buffer := make([]byte, 256)
		n, err := socket.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		return string(buffer[:n])
	}
	var running []*exec.Cmd
	for _, program := range []string{"sluice-server", "sluice-proxy"} {
		cmd := confined(context.Background(), filepath.Join(bin, program))
		cmd.Env = environment
		var errors bytes.Buffer
		cmd.Stderr = &errors
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			if t.Failed() {
				t.Logf("%s:\n%s", program, &errors)
			}
		})
		if got := said(); got != "READY=1" {
			t.Fatalf("%s told systemd %q first", program, got)
		}
		running = append(running, cmd)
	}
	status := exec.Command(filepath.Join(bin, "sluice"), "status")
	if os.Geteuid() == 0 { // a client of the same user, who may have what a service may not
		status = exec.Command("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--", filepath.Join(bin, "sluice"), "status")
	}
	status.Env = environment
	if out, err := status.CombinedOutput(); err != nil || !strings.Contains(string(out), "revision") {
		t.Errorf("sluice status: %v\n%s", err, out)
	}
	slices.Reverse(running)
	for _, cmd := range running {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if got := said(); got != "STOPPING=1" {
			t.Errorf("%s told systemd %q when it stopped", cmd.Path, got)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v ended with %v", cmd.Args, err)
		}
	}
}
