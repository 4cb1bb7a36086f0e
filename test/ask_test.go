package test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sluice.dev/sluice/internal/asking/askingtest"
)

// asking runs a command alone that may ask at a terminal, as far as do goes, and returns
// its exit status.
func (a *alone) asking(t *testing.T, do func(*askingtest.Screen), args ...string) int {
	t.Helper()
	screen := askingtest.New(t)
	if a.User.UID >= 0 {
		if err := screen.Device.Chown(a.User.UID, -1); err != nil {
			t.Fatal(err)
		}
	}
	cmd := a.Command(t.Context(), "sluice", append([]string{"run", "--ask", "--egress-sockets", a.net.Sockets, "--upstream-ca", a.net.CA, "--resolver", "8.8.8.8"}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = screen.Device, screen.Device, screen.Device
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	before := screen.Settings()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	do(screen)
	cmd.Wait()
	if now := screen.Settings(); now != before {
		t.Errorf("the terminal's settings are %+v, want %+v", now, before)
	}
	return cmd.ProcessState.ExitCode()
}

// Real clients wait for the answer, over TLS, plain HTTP and TCP.
func TestWhatIsAskedAboutPassesByTheAnswer(t *testing.T) {
	const invitation = "type once, always or no, and Enter: "
	eachUser(t, func(t *testing.T, a *alone) {
		file := filepath.Join(filepath.Dir(a.Runtime), "rules.yaml")
		put(t, file, rulesFor("www.example.com"), a.User)
		get := a.curl + " -sS -o /dev/null -w '%{http_code}\\n' --max-time 300 --cacert " + a.net.CA + " "
		script := "echo > " + file + "; " + // which changes nothing for this run
			get + "http://www.example.com/; " + get + "https://www.googleapis.com" + books + "; " +
			get + "http://www.google.com/; " + get + "http://www.google.com/; " + get + "http://www.example.com/; " + get + "https://" + hostile + "/; exit 6"
		code := a.asking(t, func(s *askingtest.Screen) {
			s.Await("200")
			if asked := s.Await("wants to reach www.googleapis.com:443: "); strings.Contains(asked, "wants to reach") {
				t.Errorf("what a rule allows was asked about: %q", asked)
			}
			s.Await(invitation)
			s.Type("always\r")
			s.Await("200")
			s.Await("wants to reach www.google.com:80 (GET /): ")
			s.Await(invitation)
			s.Type("once\r")
			s.Await("200")
			s.Await("200")
			s.Await("200")
			s.Await("wants to reach " + hostile + ":443: ")
			s.Await(invitation)
			s.Type("no\r")
			s.Await("curl: (35)")
		}, "--rules", file, "--", "sh", "-c", script)
		if code != 6 {
			t.Errorf("exit %d, want the command's own 6", code)
		}
		if n := len(a.net.Connections(t, hostile)); n != 0 {
			t.Errorf("what was answered with no saw %d connections", n)
		}
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(text), "www.googleapis.com") || strings.Contains(string(text), "google.com\"") {
			t.Errorf("the file holds %q, %v", text, err)
		}
		if r := a.run(t, "--rules", file, "--", "sh", "-c", get+"https://www.googleapis.com"+books); r.Stdout != "200\n" {
			t.Errorf("a later run: %+v", r)
		}
	})
}
