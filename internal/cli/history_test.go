package cli

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/control/authority"
	"sluice.dev/sluice/internal/control/history"
	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/rest/fakeapi"
)

// changesOf is the history of one object, googleapis.
func changesOf(key history.Key) []history.Entry {
	if key.Name != "googleapis" || key.Resource != "egressrules.config.istio.io" || key.Namespace != "default" {
		return nil
	}
	at := time.Date(2018, 2, 2, 12, 0, 0, 0, time.UTC)
	state := func(spec string, labels map[string]string) *history.State {
		return &history.State{Labels: labels, Spec: json.RawMessage(spec)}
	}
	return []history.Entry{
		{Key: key, Verb: history.Found, Revision: 4, State: state(`{"destination":{"service":"a.com"},"ports":[{"port":443,"protocol":"https"}]}`, nil)},
		{Key: key, Verb: "patch", Who: "jason", Role: "editor", From: "192.0.2.7:4711", Time: at, Revision: 7,
			State: state(`{"destination":{"service":"b.com"},"ports":[{"port":443,"protocol":"https"}]}`, map[string]string{"team": "books"})},
		{Key: key, Verb: "update", Who: "jason", Role: "editor", Time: at, Revision: 8, TooLarge: true},
		{Key: key, Verb: "delete", Who: "sluice:admin", Role: "admin", From: "api.sock (pid 7)", Time: at, Revision: 9},
	}
}

// issue gives a certificate of no authority.
func issue(request inspect.CredentialRequest) (inspect.Credential, error) {
	if request.Lifetime > authority.MaxLifetime {
		return inspect.Credential{}, fmt.Errorf("lifetime %s must be shorter", request.Lifetime)
	}
	return inspect.Credential{
		Address: "127.0.0.1:15010", ServerName: authority.ServerName, CA: "ca", Certificate: "certificate of a " + request.Role,
		Expires: time.Date(2018, 2, 2, 12, 0, 0, 0, time.UTC),
	}, nil
}

func TestTheLinesThatChangedAreThoseThatAreNotCommon(t *testing.T) {
	for _, x := range []struct{ before, after, want string }{
		{"a b c", "a b c", ""},
		{"", "a", "+a"},
		{"a", "", "-a"},
		{"a b c", "a x c", "-b +x"},
		{"a b c d", "b d e", "-a -c +e"},
		{"x a b", "a b x", "-x +x"},
		{"a a b", "a b b", "-a +b"},
	} {
		got := changedLines(strings.Fields(x.before), strings.Fields(x.after))
		for i := range got {
			got[i] = strings.Replace(got[i], " ", "", 1)
		}
		if strings.Join(got, " ") != x.want {
			t.Errorf("%q to %q: %q", x.before, x.after, got)
		}
	}
	long := slices.Repeat([]string{"a"}, 3000)
	if got := changedLines(long, slices.Repeat([]string{"b"}, 2500)); len(got) != 1 || got[0] != "(3000 lines became 2500: see -o yaml)" {
		t.Errorf("of long texts %d lines", len(got))
	}
}

func TestAFileThatTakesAPrivateKeyIsItsOwnersAlone(t *testing.T) {
	server := fakeapi.New()
	server.Beside = inspect.NewCredentialHandler(issue)
	t.Setenv("SLUICE_RUNTIME", server.Start(t))
	path := filepath.Join(t.TempDir(), "kubeconfig")
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644) // as a shell does
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Chmod(0o644); err != nil { // whatever the umask
		t.Fatal(err)
	}
	var stderr strings.Builder
	if code := execute(t.Context(), []string{"kubeconfig", "--name", "jason", "--address", "mesh.example.com:1"}, file, &stderr); code != 0 {
		t.Fatal(stderr.String())
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	_, rest, _ := strings.Cut(string(content), "client-key-data: ")
	encoded, _, _ := strings.Cut(rest, "\n")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || !strings.HasPrefix(string(key), "-----BEGIN PRIVATE KEY-----") || !strings.Contains(string(content), "server: https://mesh.example.com:1\n") {
		t.Errorf("%s %v", content, err)
	}
	if strings.Contains(stderr.String(), "KEY") || strings.Contains(stderr.String(), encoded) {
		t.Errorf("it says %q", stderr.String())
	}
}
