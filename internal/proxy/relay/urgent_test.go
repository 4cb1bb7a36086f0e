package relay

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// onSocket does something with the descriptor of a socket, again where it is full.
func onSocket(t *testing.T, c *net.TCPConn, do func(fd int) error) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	raw.Write(func(fd uintptr) bool {
		failed = do(int(fd))
		return failed != unix.EAGAIN
	})
	if failed != nil {
		t.Fatal(failed)
	}
}

// splice stops before urgent data and says that there is nothing, or that it is the end.
func TestUrgentDataIsCarriedInItsPlace(t *testing.T) {
	inline := func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1) }
	for _, copies := range []bool{false, true} {
		for _, side := range []Side{Downstream, Upstream} {
			t.Run(fmt.Sprintf("from %v, copying %v", side, copies), func(t *testing.T) {
				memory := newMemory(t)
				memory.none = copies
				x := prepare(t, Config{Memory: memory, Idle: -1})
				onSocket(t, x.relay.config.Down, inline)
				onSocket(t, x.relay.config.Up, inline)
				x.run(t.Context())
				from, to := x.client, x.destination
				if side == Upstream {
					from, to = to, from
				}
				piece := bytes.Repeat([]byte("0123456789abcdef"), 20<<10)
				say := func(b []byte) {
					t.Helper()
					got := make([]byte, len(b))
					if _, err := io.ReadFull(to, got); err != nil || !bytes.Equal(got, b) {
						t.Fatalf("of %d bytes came %.20q…, %v", len(b), got, err)
					}
				}
				for range 4 { // from the second on with a pipe
					go from.Write(piece)
					say(piece)
					onSocket(t, from, func(fd int) error { return unix.Send(fd, []byte("!"), unix.MSG_OOB) })
					say([]byte("!"))
				}
				cork(t, from) // so that they come at once
				from.Write([]byte("before"))
				onSocket(t, from, func(fd int) error { return unix.Send(fd, []byte("!"), unix.MSG_OOB) })
				from.Write([]byte("after"))
				from.CloseWrite()
				if rest, err := io.ReadAll(to); err != nil || string(rest) != "before!after" {
					t.Errorf("last came %q, %v", rest, err)
				}
				to.Close()
				from.Close()
				if r := x.end(); r.Err != nil || r.Sent+r.Received != int64(4*(len(piece)+1)+12) {
					t.Errorf("result %+v", r)
				}
				if !copies && memory.alive == 0 {
					t.Error("no pipe was made")
				}
			})
		}
	}
}
