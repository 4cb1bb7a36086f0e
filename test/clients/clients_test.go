// Package clients runs real clients inside a real `sluice run`, against the small
// internet: what they send where a good guess misses is carried, or refused clearly.
// README.md says which row of the facts is held by which test. It never measures time.
package clients

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sluice.dev/sluice/test/mesh"
)

func TestMain(m *testing.M) {
	code := m.Run()
	mesh.Clean()
	os.Exit(code)
}

// needed are the clients that must be there under CI.
var needed = map[string]bool{"python3": true, "curl": true}

// client is where a client of this machine is. A test whose client is missing is
// skipped, or fails where it must be there.
func client(t *testing.T, name string) string {
	t.Helper()
	// One that belongs to the machine comes first: the rootless half may not enter
	// the home of another user, in which a version manager keeps its own.
	if path := filepath.Join("/usr/bin", name); exec.Command("test", "-x", path).Run() == nil {
		return path
	}
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if needed[name] && os.Getenv("CI") != "" {
		t.Fatalf("%s is missing: under CI it must be there", name)
	}
	t.Skipf("%s is missing", name)
	return ""
}

// sandbox is a place with a small internet, for commands of one user: an ordinary one
// where the machine lets us be that.
type sandbox struct {
	*mesh.Place
	net *mesh.Internet
}

func newSandbox(t *testing.T) *sandbox {
	t.Helper()
	users := mesh.Users(t)
	place := mesh.NewPlace(t, users[len(users)-1])
	return &sandbox{Place: place, net: place.StartInternet(t)}
}

// run runs a command in the sandbox. allow has rules, by blanks.
func (s *sandbox) run(t *testing.T, allow string, command ...string) mesh.Result {
	t.Helper()
	args := []string{"run", "--egress-sockets", s.net.Sockets, "--upstream-ca", s.net.CA, "--resolver", "8.8.8.8"}
	for _, rule := range strings.Fields(allow) {
		args = append(args, "--allow", rule)
	}
	return s.Sluice(t, append(append(args, "--"), command...)...)
}

// python runs a script with an argument in JSON and reads what it prints as JSON.
func (s *sandbox) python(t *testing.T, allow, script string, argument, into any) mesh.Result {
	t.Helper()
	text, err := json.Marshal(argument)
	if err != nil {
		t.Fatal(err)
	}
	r := s.run(t, allow, client(t, "python3"), "-c", script, string(text))
	if err := json.Unmarshal([]byte(r.Stdout), into); err != nil || r.Code != 0 {
		t.Fatalf("python: exit %d, %v, %q, %q", r.Code, err, r.Stdout, r.Stderr)
	}
	return r
}
