package mesh

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// User is who runs the processes of a test.
type User struct {
	Name string
	UID  int // -1: whoever runs the test
}

// Users returns as whom a test runs: as ourselves and, where we are root, again
// as an ordinary user. Under CI a missing setpriv fails; elsewhere that half is
// skipped with the reason.
func Users(t *testing.T) []User {
	t.Helper()
	if os.Geteuid() != 0 {
		return []User{{Name: "user", UID: -1}}
	}
	users := []User{{Name: "root", UID: -1}}
	if _, err := exec.LookPath("setpriv"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("setpriv is missing: under CI the rootless half must run")
		}
		t.Log("the rootless half is skipped: setpriv (util-linux) is missing")
		return users
	}
	return append(users, User{Name: "rootless", UID: 1000})
}

// AsUser begins a command that root runs as another user.
func AsUser(uid int) []string {
	id := strconv.Itoa(uid)
	return []string{"setpriv", "--reuid=" + id, "--regid=" + id, "--clear-groups", "--"}
}

// Place is a runtime folder of one test, with the environment that leads there.
type Place struct {
	User    User
	Runtime string
	Data    string
	Bin     string
	Samples string
}

// NewPlace makes folders that the user owns. They are short: a unix socket's path
// has 108 bytes.
func NewPlace(t testing.TB, user User) *Place {
	t.Helper()
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	base, err := os.MkdirTemp("", "slt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	p := &Place{User: user, Runtime: filepath.Join(base, "run"), Data: filepath.Join(base, "data"), Bin: Binaries(t), Samples: filepath.Join(base, "samples")}
	if err := os.CopyFS(p.Samples, os.DirFS(filepath.Join(root, "samples"))); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{base, p.Runtime, p.Data} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if user.UID >= 0 {
			if err := os.Chown(dir, user.UID, user.UID); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Chmod(base, 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

// Command is a command as the place's user, with the place's folders. A relative
// program is one of the binaries.
func (p *Place) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	if !filepath.IsAbs(program) {
		program = filepath.Join(p.Bin, program)
	}
	argv := append([]string{program}, args...)
	if p.User.UID >= 0 {
		argv = append(AsUser(p.User.UID), argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = filepath.Dir(p.Runtime)
	cmd.Env = append(aroundNone(os.Environ()), "SLUICE_RUNTIME="+p.Runtime, "SLUICE_DATA="+p.Data, "HOME="+filepath.Dir(p.Runtime))
	cmd.WaitDelay = Patience
	return cmd
}

// aroundNone is an environment without the machine's proxy, of which each run would say
// that it is not passed in, and without what make gives to those below it: a make of a test
// would take part in the jobs of the make that runs the tests.
func aroundNone(env []string) []string {
	return slices.DeleteFunc(env, func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return strings.HasSuffix(strings.ToLower(name), "_proxy") || name == "MAKEFLAGS" || name == "MFLAGS" || name == "MAKELEVEL"
	})
}

// Result is what a command did.
type Result struct {
	Stdout, Stderr string
	Code           int
	Took           time.Duration
}

// Run runs a command to its end, with text on its standard input.
func (p *Place) Run(t testing.TB, input string, program string, args ...string) Result {
	t.Helper()
	return Finish(t, p.commandWith(t, program, args...), input)
}

func (p *Place) commandWith(t testing.TB, program string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), 2*Patience)
	t.Cleanup(cancel)
	return p.Command(ctx, program, args...)
}

// Finish runs cmd to its end.
func Finish(t testing.TB, cmd *exec.Cmd, input string) Result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewBufferString(input), &stdout, &stderr
	began := time.Now()
	err := cmd.Run()
	r := Result{Stdout: stdout.String(), Stderr: stderr.String(), Took: time.Since(began)}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.Code = exit.ExitCode()
	case err != nil:
		t.Fatalf("%v: %v\n%s", cmd.Args, err, r.Stderr)
	}
	return r
}

// Sluice runs the command line.
func (p *Place) Sluice(t testing.TB, args ...string) Result {
	t.Helper()
	return p.Run(t, "", "sluice", args...)
}
