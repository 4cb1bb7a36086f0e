package sandbox

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A socket stays in the namespace that it was made in: as a standard stream it
// would be a way out.
func TestASocketOfTheOutsideIsNoStandardStream(t *testing.T) {
	file := func(conn any, err error) *os.File {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		f, err := conn.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	connected := os.NewFile(uintptr(pair[0]), "pair")
	defer connected.Close()
	defer unix.Close(pair[1])
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	for name, test := range map[string]struct {
		stream *os.File
		what   string
	}{
		"a TCP connection":   {file(net.Dial("tcp", tcp.Addr().String())), "network socket"},
		"a TCP listener":     {file(tcp, nil), "network socket"},
		"UDP":                {file(net.ListenPacket("udp", "127.0.0.1:0")), "network socket"},
		"a unix listener":    {file(net.Listen("unix", filepath.Join(t.TempDir(), "s"))), "not connected"},
		"unix datagrams":     {file(net.ListenPacket("unixgram", filepath.Join(t.TempDir(), "s"))), "datagram"},
		"a connected stream": {connected, ""},
	} {
		for _, config := range []Config{
			{Command: []string{"true"}, Stdin: test.stream},
			{Command: []string{"true"}, Stdout: test.stream},
			{Command: []string{"true"}, Stderr: test.stream},
		} {
			err := config.checkStreams()
			var refused *StreamError
			if (test.what == "") != (err == nil) || err != nil && (!errors.As(err, &refused) || !strings.Contains(refused.What, test.what)) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if _, err := New(t.Context(), Config{Command: []string{"true"}, Stdin: file(tcp, nil)}); err == nil {
		t.Error("a sandbox was made around a listener of the outside")
	}
}

func TestAFileThatIsReadFromAReadOnlyTreeCannotBeWrittenThroughItsDescriptor(t *testing.T) {
	home := makeUserHome(t, "tree/file")
	input, err := os.Open(filepath.Join(home, "tree/file"))
	if err != nil {
		t.Fatal(err)
	}
	defer input.Close()
	p := newPlace(t, Config{
		Command: []string{"sh", "-c", "head -c 3; echo changed > /proc/self/fd/0 && echo written"}, Stdin: input,
		Files: Files{Views: []View{{Path: filepath.Join(home, "tree"), Mode: ViewReadOnly}}},
	})
	if output, _ := p.run(t); !strings.HasPrefix(output, "the") || strings.Contains(output, "written") {
		t.Errorf("it says %q", output)
	}
	if content, err := os.ReadFile(filepath.Join(home, "tree/file")); string(content) != "the secret of tree/file\n" {
		t.Errorf("the file holds %q, %v", content, err)
	}
}

// What is read by several in turn goes on where the one before stopped.
func TestThePlaceInAFileThatMayBeWrittenInsideIsSharedWithThoseOutside(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("one\ntwo\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	input, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer input.Close()
	p := newPlace(t, Config{Command: []string{"sh", "-c", "read line; echo $line"}, Stdin: input})
	if output, _ := p.run(t); output != "one\n" {
		t.Errorf("the command reads %q", output)
	}
	if rest, err := io.ReadAll(input); string(rest) != "two\n" {
		t.Errorf("the next one reads %q, %v", rest, err)
	}
}
