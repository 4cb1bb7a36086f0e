package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture/seqpacket"
)

var web = netip.MustParseAddrPort("127.0.0.1:9080")

func ask(t testing.TB, conn net.Conn) string {
	t.Helper()
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(conn, "GET / HTTP/1.0\r\n\r\n")
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(answer), "\r\n\r\n")
	return body
}

func TestADialBeginsInTheOtherNamespaceFromAnySource(t *testing.T) {
	c, _ := captured(t, "serve")
	for source, want := range map[string]string{"": "127.0.0.1", "198.18.1.9": "198.18.1.9", "203.0.113.5": "203.0.113.5"} {
		var src netip.Addr
		if source != "" {
			src = netip.MustParseAddr(source)
		}
		conn, err := c.Inward.DialTCP(t.Context(), src, web)
		if err != nil {
			t.Fatal(err)
		}
		if body := ask(t, conn); !strings.HasPrefix(body, want+":") {
			t.Errorf("from %q the server saw %s", source, body)
		}
	}
}

func TestManyDialsInARowAndAtOnceAllSucceed(t *testing.T) {
	c, _ := captured(t, "serve")
	for range 150 {
		conn, err := c.Inward.DialTCP(t.Context(), netip.Addr{}, web)
		if err != nil {
			t.Fatal(err)
		}
		ask(t, conn)
	}
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			conn, err := c.Inward.DialTCP(t.Context(), netip.Addr{}, web)
			if err != nil {
				t.Error(err)
				return
			}
			ask(t, conn)
		})
	}
	all.Wait()
	for socket, s := range c.Inward.stocks {
		if len(s.files) > largestBatch || s.batch > largestBatch {
			t.Errorf("%v: a stock of %d", socket, len(s.files))
		}
	}
}

func TestADialledConnectionLivesInThePoller(t *testing.T) {
	c, _ := captured(t, "serve")
	conn, err := c.Inward.DialTCP(t.Context(), netip.Addr{}, web)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	reads := 0
	read := func(fd uintptr) bool {
		reads++
		_, err := unix.Read(int(fd), make([]byte, 1))
		if reads == 1 {
			conn.SetReadDeadline(time.Unix(1, 0)) // what waits now has waited for long enough
		}
		return err != unix.EAGAIN
	}
	if err := raw.Read(read); !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
		t.Errorf("a read of nothing: %v", err)
	}
	conn.SetReadDeadline(time.Now().Add(patience))
	fmt.Fprint(conn, "GET / HTTP/1.0\r\n\r\n")
	if err := raw.Read(read); err != nil || reads < 2 {
		t.Errorf("a read of an answer: %v after %d reads", err, reads)
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func TestAFailedDialSaysWhy(t *testing.T) {
	c, _ := captured(t, "serve")
	conn, err := c.Inward.DialTCP(t.Context(), netip.Addr{}, web) // fills the stock
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	hanging := netip.MustParseAddrPort("127.0.0.1:20000")
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	cancelled, cancelNow := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancelNow)
	for _, test := range []struct {
		name string
		ctx  context.Context
		src  netip.Addr
		dst  netip.AddrPort
		want error
	}{
		{"a closed port", t.Context(), netip.Addr{}, netip.MustParseAddrPort("127.0.0.1:1"), syscall.ECONNREFUSED},
		{"a deadline", soon, netip.Addr{}, hanging, context.DeadlineExceeded},
		{"a cancelled dial", cancelled, netip.Addr{}, hanging, context.Canceled},
		{"a dial after its context", cancelled, netip.Addr{}, web, context.Canceled},
		{"a source of the other family", t.Context(), netip.IPv6Loopback(), web, nil},
		{"a zone", t.Context(), netip.Addr{}, netip.MustParseAddrPort("[fe80::1%lo]:1"), nil},
		{"no address", t.Context(), netip.Addr{}, netip.AddrPort{}, nil},
	} {
		conn, err := c.Inward.DialTCP(test.ctx, test.src, test.dst)
		if err == nil {
			conn.Close()
		}
		if err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
	c.Close()
	if _, err := c.Inward.DialTCP(t.Context(), netip.Addr{}, web); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestClosingACaptureGivesEveryDescriptorBack(t *testing.T) {
	{ // what the first of all opens for good
		c, command := captured(t, "serve")
		conn, err := c.Inward.DialTCP(t.Context(), netip.Addr{}, web)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		c.Close()
		command.Process.Kill()
		command.Wait()
	}
	before := countDescriptors()
	c, command := captured(t, "serve")
	for range 7 { // some of the stock is used, some is not
		conn, err := c.Inward.DialTCP(t.Context(), netip.Addr{}, web)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	c.Inward.DialTCP(t.Context(), netip.Addr{}, netip.MustParseAddrPort("127.0.0.1:1"))
	c.Close()
	command.Process.Kill()
	command.Wait()
	eventually(t, fmt.Sprintf("%d descriptors", before), func() bool { return countDescriptors() <= before })
}

func TestAPathFactoryFindsAServerThatCameBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "internet.sock")
	server := namespace(t, "internet", nil, path)
	var f *Factory
	eventually(t, "the factory is there", func() bool {
		var err error
		f, err = DialFactory(t.Context(), path)
		return err == nil
	})
	defer f.Close()
	google := netip.MustParseAddrPort("142.250.74.74:80")
	dial := func() error {
		conn, err := f.DialTCP(t.Context(), netip.Addr{}, google)
		if err != nil {
			return err
		}
		ask(t, conn)
		return nil
	}
	if err := dial(); err != nil {
		t.Fatal(err)
	}
	server.Process.Kill()
	server.Wait()
	if err := dial(); err == nil {
		t.Fatal("a dial into a namespace that is gone")
	}
	namespace(t, "internet", nil, path)
	eventually(t, "dials succeed again", func() bool { return dial() == nil })

	packets, err := f.DialUDP(t.Context(), netip.MustParseAddrPort("8.8.8.8:53"))
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	packets.SetDeadline(time.Now().Add(patience))
	packets.Write([]byte("echo"))
	buffer := make([]byte, 10)
	if n, err := packets.Read(buffer); err != nil || string(buffer[:n]) != "echo" {
		t.Errorf("%q, %v", buffer[:n], err)
	}
}

func TestAHandedFactoryWhoseNamespaceIsGoneSaysSo(t *testing.T) {
	c, command := captured(t, "serve")
	conn, err := c.Inward.DialTCP(t.Context(), netip.Addr{}, web)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	command.Process.Kill()
	command.Wait()
	if _, err := c.Inward.DialTCP(t.Context(), netip.Addr{}, web); !errors.Is(err, ErrFactoryGone) {
		t.Error(err)
	}
}

// The first request is answered only after the second came.
func TestALateReplyIsNotTakenForAnother(t *testing.T) {
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	fd, _ := unix.Dup(int(theirs.Fd()))
	theirs.Close()
	server, err := seqpacket.Conn(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	f := NewFactory(ours)
	defer f.Close()
	var first, second request
	asked, giveUp := context.WithCancel(t.Context())
	go func() {
		if _, err := seqpacket.Receive(server, &first, 0); err != nil {
			t.Error(err)
		}
		giveUp()
	}()
	if _, err := f.take(asked, socketType{unix.AF_INET, unix.SOCK_STREAM}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	go func() {
		if _, err := seqpacket.Receive(server, &second, 0); err != nil {
			t.Error(err)
		}
		late, _ := openPlain(unix.AF_INET)
		right, _ := openPlain(unix.AF_INET6)
		seqpacket.Send(server, reply{Number: first.Number}, late)
		seqpacket.Send(server, reply{Number: second.Number}, right)
		seqpacket.Close([]int{late, right})
	}()
	taken, err := f.take(t.Context(), socketType{unix.AF_INET6, unix.SOCK_STREAM})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(taken)
	if domain, err := unix.GetsockoptInt(taken, unix.SOL_SOCKET, unix.SO_DOMAIN); domain != unix.AF_INET6 {
		t.Errorf("family %d, %v", domain, err)
	}
}

func openPlain(domain int) (int, error) { return unix.Socket(domain, unix.SOCK_STREAM, 0) }

func TestAServerThatNeverAnswersIsWaitedForOnlySoLong(t *testing.T) {
	c, _ := captured(t, "silent")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := c.Inward.DialTCP(ctx, netip.Addr{}, web); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestOnlySocketsForTheInternetAreServed(t *testing.T) {
	for _, test := range []request{
		{Domain: unix.AF_UNIX, Kind: unix.SOCK_STREAM, Count: 1},
		{Domain: unix.AF_PACKET, Kind: unix.SOCK_RAW, Count: 1},
		{Domain: unix.AF_INET, Kind: unix.SOCK_RAW, Count: 1},
		{Domain: unix.AF_INET, Kind: unix.SOCK_STREAM | unix.SOCK_CLOEXEC, Count: 1},
		{Domain: unix.AF_INET, Kind: unix.SOCK_STREAM, Count: 0},
		{Domain: unix.AF_INET, Kind: unix.SOCK_STREAM, Count: seqpacket.MaxFiles + 1},
		{Domain: unix.AF_INET, Kind: unix.SOCK_STREAM, Count: -1},
		{Format: socketsFormat + 1, Domain: unix.AF_INET, Kind: unix.SOCK_STREAM, Count: 1},
	} {
		files, err := openBatch(test)
		seqpacket.Close(files)
		if err == nil {
			t.Errorf("%+v was served", test)
		}
	}
}

func TestSocketsOfAnotherFormatAreRefusedWithTheReason(t *testing.T) {
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	server, err := net.FileConn(theirs)
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		var asked request
		if _, err := seqpacket.Receive(server.(*net.UnixConn), &asked, 0); err != nil {
			t.Error(err)
		}
		fd, err := openPlain(unix.AF_INET)
		if err != nil {
			t.Error(err)
		}
		defer unix.Close(fd)
		if err := seqpacket.Send(server.(*net.UnixConn), reply{Format: 7, Number: asked.Number}, fd); err != nil {
			t.Error(err)
		}
	}()
	f := NewFactory(ours)
	defer f.Close()
	_, err = f.DialTCP(t.Context(), netip.Addr{}, web)
	if err == nil || !strings.Contains(err.Error(), "the reply with sockets has format 7; this Sluice reads format 1: upgrade this Sluice") {
		t.Error(err)
	}
}

func TestHostDialsOverPlainTCP(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := Host{}.DialTCP(t.Context(), netip.MustParseAddr("127.0.0.9"), listener.Addr().(*net.TCPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if multipath, _ := conn.MultipathTCP(); multipath {
		t.Error("MPTCP is on")
	}
	if got := conn.LocalAddr().(*net.TCPAddr).IP.String(); got != "127.0.0.9" {
		t.Errorf("from %s", got)
	}
}

// inline reports whether urgent data stays in its place in what is read from a socket.
func inline(t *testing.T, conn *net.TCPConn) (is bool) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		value, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_OOBINLINE)
		is = err == nil && value == 1
	})
	return is
}

func TestUrgentDataStaysInItsPlaceOnEachSocket(t *testing.T) {
	c, _ := captured(t, "dial")
	accepted, err := c.TCP[0].AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	if !inline(t, accepted) {
		t.Error("not on what is captured")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dialled, err := Host{}.DialTCP(t.Context(), netip.Addr{}, listener.Addr().(*net.TCPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	defer dialled.Close()
	if !inline(t, dialled) {
		t.Error("not on what is dialled from here")
	}
	served, _ := captured(t, "serve")
	inward, err := served.Inward.DialTCP(t.Context(), netip.Addr{}, web)
	if err != nil {
		t.Fatal(err)
	}
	defer inward.Close()
	if !inline(t, inward) {
		t.Error("not on what is dialled in a namespace")
	}
}

func BenchmarkFactoryDial(b *testing.B) {
	c, _ := captured(b, "serve")
	b.ReportAllocs()
	for b.Loop() {
		conn, err := c.Inward.DialTCP(b.Context(), netip.Addr{}, web)
		if err != nil {
			b.Fatal(err)
		}
		conn.SetLinger(0)
		conn.Close()
	}
}
