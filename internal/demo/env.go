package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"sluice.dev/sluice/internal/paths"
)

// maxState bounds the file of a running demo, in bytes.
const maxState = 64 << 10

// state is what a demo that is ready writes down for `sluice demo --env`. The paths
// are absolute: the shell that asks may have another TMPDIR than the demo had.
type state struct {
	Sockets  string `json:"egressSockets,omitempty"` // "": the machine's own internet
	Resolver string `json:"resolver,omitempty"`
	CA       string `json:"ca,omitempty"`
}

// sluiceVariables lead sluice run and sluice-proxy out through a small internet: its
// sockets, its resolver, its CA.
var sluiceVariables = []string{"SLUICE_EGRESS_SOCKETS", "SLUICE_RESOLVER", "SLUICE_UPSTREAM_CA"}

// startHint ends each error of Env.
const startHint = "start one with make demo in another terminal, as the same user, and wait until it says that it is ready"

// writeState writes the file, whole or not at all. The demo's end removes it with
// its folder; the next demo removes that of one that was killed.
func writeState(p places, real bool) error {
	var s state
	if !real {
		s = state{Sockets: p.internetSockets(), Resolver: resolver, CA: p.internetCA()}
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	next := p.state() + ".next"
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return fmt.Errorf("write the state of the demo: %w", err)
	}
	return os.Rename(next, p.state())
}

// Env writes the lines with which a shell uses the small internet of the demo that
// runs in the runtime folder. They are written only where all of it is there,
// belongs to this user and is alive; else nothing is, and the error says what to do.
func Env(runtime string, out, notes io.Writer) error {
	s, err := readState(runtime)
	if err != nil {
		return err
	}
	if s.Sockets == "" {
		fmt.Fprintln(notes, "The demo uses this machine's internet: there is nothing to set.")
		return nil
	}
	var b strings.Builder
	export := func(value string, names ...string) {
		for _, name := range names {
			fmt.Fprintf(&b, "export %s=%s\n", name, quote(value))
		}
	}
	// Sluice's own way out.
	for i, value := range []string{s.Sockets, s.Resolver, s.CA} {
		export(value, sluiceVariables[i])
	}
	// What clients trust whose TLS is passed through: curl, OpenSSL and Go, Python's
	// requests, Node and git.
	export(s.CA, "CURL_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO")
	_, err = io.WriteString(out, b.String())
	return err
}

// readState reads and checks what the demo of a runtime folder wrote.
func readState(runtime string) (state, error) {
	var s state
	p := places{private: filepath.Join(runtime, "demo")}
	if _, err := os.Lstat(p.state()); errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("no demo is ready in %s: %s", runtime, startHint)
	}
	for _, folder := range []string{runtime, p.private} {
		if err := paths.Check(folder); err != nil {
			return s, err
		}
	}
	text, err := readOwn(p.state(), 0o077)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("%s is not the state of a demo (%w): %s", p.state(), err, startHint)
	}
	sockets := []string{filepath.Join(runtime, paths.APISocket)}
	if s.Sockets != "" {
		sockets = append(sockets, s.Sockets)
	}
	for _, socket := range sockets {
		if err := alive(socket); err != nil {
			return s, fmt.Errorf("the demo of %s has ended (%w): %s", runtime, err, startHint)
		}
	}
	if s.Sockets == "" {
		return s, nil
	}
	if s.Resolver == "" {
		return s, fmt.Errorf("%s names no resolver: %s", p.state(), startHint)
	}
	// Others may read the CA, nobody else may write it.
	if _, err := readOwn(s.CA, 0o022); err != nil {
		return s, fmt.Errorf("the CA of the small internet: %w", err)
	}
	return s, nil
}

// alive reports why a socket is not one of this user on which somebody listens.
func alive(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is not a socket", path)
	}
	if err := ownedByUs(path, info); err != nil {
		return err
	}
	if !served(path) {
		return fmt.Errorf("nobody listens on %s", path)
	}
	return nil
}

// readOwn reads a regular file of this user that has none of the given permissions.
func readOwn(path string, without fs.FileMode) ([]byte, error) {
	// NONBLOCK: a named pipe in its place must not hold us.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if err := ownedByUs(path, info); err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&without != 0 {
		return nil, fmt.Errorf("%s is not a file that this user alone can change (mode %v): %s", path, info.Mode(), startHint)
	}
	if info.Size() > maxState {
		return nil, fmt.Errorf("%s has %d bytes, more than %d: %s", path, info.Size(), maxState, startHint)
	}
	return io.ReadAll(io.LimitReader(file, maxState))
}

func ownedByUs(path string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to another user: %s", path, startHint)
	}
	return nil
}

// quote makes one word of sh of a text, whatever it holds.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
