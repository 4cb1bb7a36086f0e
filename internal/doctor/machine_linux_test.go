package doctor

import (
	"net"
	"path/filepath"
	"testing"
)

func TestAProxyIsSeenWithoutBeingConnectedTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "attach.sock")
	if proxyListens(path) {
		t.Error("where there is no socket a proxy is seen")
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if !proxyListens(path) {
		t.Error("a proxy is not seen")
	}
	came := make(chan struct{})
	go func() {
		defer close(came)
		if conn, err := l.Accept(); err == nil {
			conn.Close()
			t.Error("it was connected to")
		}
	}()
	l.Close()
	<-came
	if proxyListens(path) {
		t.Error("a proxy that was killed is seen")
	}
	other := filepath.Join(t.TempDir(), "attach.sock")
	stream, err := net.Listen("unix", other)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if proxyListens(other) {
		t.Error("another socket is taken for a proxy's")
	}
}
