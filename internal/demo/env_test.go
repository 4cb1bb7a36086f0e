package demo

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// ready makes the files of a demo that is ready, and listens on its sockets.
func ready(t *testing.T, real bool) (runtime string, p places, end func()) {
	t.Helper()
	runtime = newRuntime(t)
	p = placesOf(Config{Runtime: runtime})
	p.public = filepath.Join(runtime, "it's $HOME; \"a\" `b`")
	unlock, err := p.make()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(unlock)
	if err := os.WriteFile(p.internetCA(), []byte("a certificate"), 0o644); err != nil {
		t.Fatal(err)
	}
	var all []net.Listener
	for _, path := range []string{filepath.Join(runtime, "api.sock"), p.internetSockets()} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false) // as where it was killed
		all = append(all, l)
		t.Cleanup(func() { l.Close() })
	}
	if err := writeState(p, real); err != nil {
		t.Fatal(err)
	}
	return runtime, p, func() {
		for _, l := range all {
			l.Close()
		}
	}
}

func TestAShellReadsTheEnvironmentOfTheRunningDemo(t *testing.T) {
	runtime, p, _ := ready(t, false)
	var out bytes.Buffer
	if err := Env(runtime, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `eval "$1"; printf '%s\n' "$SLUICE_EGRESS_SOCKETS" "$SLUICE_RESOLVER" "$SLUICE_UPSTREAM_CA" "$SSL_CERT_FILE"; sh -c 'echo "$CURL_CA_BUNDLE"'`, "sh", out.String())
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	got, err := cmd.CombinedOutput()
	want := strings.Join([]string{p.internetSockets(), resolver, p.internetCA(), p.internetCA(), p.internetCA()}, "\n") + "\n"
	if err != nil || string(got) != want {
		t.Errorf("a shell has\n%s(%v), want\n%s", got, err, want)
	}
}

func TestADemoOnTheRealInternetSetsNothing(t *testing.T) {
	runtime, _, _ := ready(t, true)
	var out, notes bytes.Buffer
	if err := Env(runtime, &out, &notes); err != nil || out.Len() > 0 || !strings.Contains(notes.String(), "nothing to set") {
		t.Errorf("printed %q, noted %q, %v", out.String(), notes.String(), err)
	}
}

func TestWithoutADemoThatCanBeTrustedNothingIsPrinted(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, runtime string, p places, end func())
		says   string
	}{
		"no demo was ever there":          {func(t *testing.T, _ string, p places, _ func()) { p.remove() }, "no demo is ready"},
		"it is not ready yet":             {func(t *testing.T, _ string, p places, _ func()) { os.Remove(p.state()) }, "no demo is ready"},
		"it was killed":                   {func(_ *testing.T, _ string, _ places, end func()) { end() }, "has ended"},
		"its socket is gone":              {func(t *testing.T, _ string, p places, _ func()) { os.Remove(p.internetSockets()) }, "has ended"},
		"its socket is a file":            {func(t *testing.T, _ string, p places, _ func()) { replace(t, p.internetSockets()) }, "not a socket"},
		"the state is no JSON":            {func(t *testing.T, _ string, p places, _ func()) { os.WriteFile(p.state(), []byte("x"), 0o600) }, "not the state of a demo"},
		"the state names no resolver":     {func(t *testing.T, _ string, p places, _ func()) { without(t, p.state(), resolver) }, "no resolver"},
		"the state is too large":          {func(t *testing.T, _ string, p places, _ func()) { os.Truncate(p.state(), maxState+1) }, "more than"},
		"the CA is gone":                  {func(t *testing.T, _ string, p places, _ func()) { os.Remove(p.internetCA()) }, "the CA"},
		"the CA can be written by all":    {func(t *testing.T, _ string, p places, _ func()) { os.Chmod(p.internetCA(), 0o666) }, "this user alone"},
		"the folder is open to others":    {func(t *testing.T, _ string, p places, _ func()) { os.Chmod(p.private, 0o755) }, "open to other users"},
		"the state is a link":             {func(t *testing.T, _ string, p places, _ func()) { link(t, p.state()) }, "state.json"},
		"the state is another user's":     {func(t *testing.T, _ string, p places, _ func()) { give(t, p.state()) }, "another user"},
		"the CA is another user's":        {func(t *testing.T, _ string, p places, _ func()) { give(t, p.internetCA()) }, "another user"},
		"the socket is another user's":    {func(t *testing.T, _ string, p places, _ func()) { give(t, p.internetSockets()) }, "another user"},
		"the runtime folder is another's": {func(t *testing.T, runtime string, _ places, _ func()) { give(t, runtime) }, "another user"},
	} {
		t.Run(name, func(t *testing.T) {
			runtime, p, end := ready(t, false)
			c.change(t, runtime, p, end)
			var out bytes.Buffer
			err := Env(runtime, &out, io.Discard)
			if err == nil || !strings.Contains(err.Error(), c.says) || out.Len() > 0 {
				t.Errorf("said %v (want %q), printed %q", err, c.says, out.String())
			}
			if slices.Contains([]string{"no demo is ready", "has ended"}, c.says) && !strings.Contains(err.Error(), "make demo") {
				t.Errorf("%v does not say how to start one", err)
			}
		})
	}
}

func TestADemoIgnoresTheInternetOfAnother(t *testing.T) {
	got := withoutInternet([]string{"HOME=/root", "SLUICE_RESOLVER=1.1.1.1", "SLUICE_EGRESS_SOCKETS=/gone", "SLUICE_UPSTREAM_CA=/gone", "SLUICE_RUNTIME=/r"})
	if !slices.Equal(got, []string{"HOME=/root", "SLUICE_RUNTIME=/r"}) {
		t.Errorf("its processes get %v", got)
	}
}

func replace(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, path string) {
	t.Helper()
	if err := os.Rename(path, path+".true"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path+".true", path); err != nil {
		t.Fatal(err)
	}
}

func without(t *testing.T, path, text string) {
	t.Helper()
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(old, []byte(text), nil), 0o600); err != nil {
		t.Fatal(err)
	}
}

func give(t *testing.T, path string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("root alone gives a file away")
	}
	if err := os.Chown(path, 1000, 1000); err != nil {
		t.Fatal(err)
	}
}
