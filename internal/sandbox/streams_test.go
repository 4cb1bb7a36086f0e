package sandbox

import (
	"errors"
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
