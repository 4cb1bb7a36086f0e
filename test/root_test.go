package test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sluice.dev/sluice/test/mesh"
)

// asRoot is a place of root's, in a folder that all may enter.
func asRoot(t *testing.T, programs ...string) *mesh.Place {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("requires root")
	}
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	return mesh.NewPlace(t, mesh.User{Name: "root", UID: -1})
}

// apt-get fetches as a user of its own: it gives that user a folder and becomes it.
func TestAptGetUpdatesAsRootWithItsOwnUser(t *testing.T) {
	place := asRoot(t, "apt-get")
	if exec.Command("id", "_apt").Run() != nil {
		t.Skip("there is no user _apt")
	}
	folder := filepath.Dir(place.Runtime)
	packages := "Package: sluice-test\nVersion: 7\nArchitecture: all\nMaintainer: nobody\nFilename: ./x.deb\nSize: 1\nSHA256: " + strings.Repeat("0", 64) + "\nDescription: none\n"
	for name, content := range map[string]string{"repository/Packages": packages, "lists/lock": "", "archives/lock": ""} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 64)
	files := http.FileServer(http.Dir(filepath.Join(folder, "repository")))
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case asked <- r.UserAgent() + " " + r.URL.Path:
		default:
		}
		files.ServeHTTP(w, r)
	})}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	port := fmt.Sprint(listener.Addr().(*net.TCPAddr).Port)
	list := filepath.Join(folder, "sources.list")
	if err := os.WriteFile(list, []byte("deb [trusted=yes] http://host.sluice.internal:"+port+"/ ./\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	script := `
		o="-o Dir::Etc::sourcelist=$1/sources.list -o Dir::Etc::sourceparts=- -o Dir::State::lists=$1/lists -o Dir::Cache=$1/archives -o APT::Get::List-Cleanup=0"
		apt-get -q $o update >$1/log 2>&1 || { cat $1/log; exit 1; }
		grep -E '^(W|E):' $1/log
		stat -c %U $1/lists/partial
		apt-cache $o show sluice-test | grep Version`
	run := func(flags ...string) mesh.Result {
		return place.Sluice(t, append(append([]string{"run", "--reach-host", port}, flags...), "--", "sh", "-c", script, "sh", folder)...)
	}
	// Root without its rights cannot: what is looked at below is theirs.
	if r := run("--no-file-capabilities"); r.Code == 0 {
		t.Errorf("without its rights: %q, %q", r.Stdout, r.Stderr)
	}
	r := run()
	if want := "_apt\nVersion: 7\n"; r.Code != 0 || r.Stdout != want {
		t.Errorf("exit %d: %q, want %q; %s", r.Code, r.Stdout, want, r.Stderr)
	}
	found := false
	for len(asked) > 0 {
		found = strings.Contains(<-asked, "/Packages") || found
	}
	if !found {
		t.Error("nobody fetched the packages over the network")
	}
}

func TestRootGivesUpItsRightsOverFilesByAFlag(t *testing.T) {
	place := asRoot(t, "chown")
	script := `touch f; chown 4242 f 2>/dev/null && echo kept; test -e /dev/console && echo devices; true`
	for want, flags := range map[string][]string{"kept\n": nil, "devices\n": {"--no-file-capabilities"}} {
		if _, err := os.Stat("/dev/console"); err != nil {
			t.Skip(err)
		}
		r := place.Sluice(t, append(append([]string{"run"}, flags...), "--", "sh", "-c", script)...)
		if r.Code != 0 || r.Stdout != want {
			t.Errorf("%v: exit %d: %q, want %q; %s", flags, r.Code, r.Stdout, want, r.Stderr)
		}
	}
}
