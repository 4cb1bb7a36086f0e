package tunnel

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture"
)

// lookEvery is how often it is looked whether somebody still holds the near end of a
// bridge that is half closed.
const lookEvery = 10 * time.Second

// bridge returns a TCP connection that leads into a TLS connection to the proxy, so that
// all who carry bytes handle sockets alone. It takes over outer and tcp, which lies below;
// done is called when both have ended. With an error both remain the caller's.
func bridge(ctx context.Context, outer *tls.Conn, tcp *net.TCPConn, done func()) (*net.TCPConn, error) {
	near, far, err := pair(ctx)
	if err != nil {
		return nil, err
	}
	b := &bridged{outer: outer, tcp: tcp, far: far, ended: make(chan struct{})}
	var both sync.WaitGroup
	both.Go(b.out)
	both.Go(b.in)
	go func() {
		both.Wait()
		tcp.Close()
		far.Close()
		done()
	}()
	return near, nil
}

// bridged is the far end of a bridge.
type bridged struct {
	outer *tls.Conn
	tcp   *net.TCPConn
	far   *net.TCPConn
	ended chan struct{} // in has ended
}

// out carries what comes from near.
func (b *bridged) out() {
	if _, err := io.Copy(onlyWriter{b.outer}, b.far); err != nil || b.outer.CloseWrite() != nil {
		b.abort()
		return
	}
	// Near said that it has no more to say, or is gone; nothing tells which until
	// somebody writes to it.
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-b.ended:
			return
		case <-tick.C:
			if closed(b.far) {
				b.abort()
				return
			}
		}
	}
}

// in carries what the proxy sends. An end without close_notify counts as one: many proxies
// end so, and without TLS nothing would tell it from another.
func (b *bridged) in() {
	defer close(b.ended)
	if _, err := io.Copy(onlyWriter{b.far}, b.outer); err != nil || b.far.CloseWrite() != nil {
		b.abort()
	}
}

// abort ends both connections; who reads from near sees a reset.
func (b *bridged) abort() {
	b.far.SetLinger(0)
	b.far.Close()
	b.tcp.SetLinger(0)
	b.tcp.Close()
}

// onlyWriter hides what io.Copy would use in place of Write.
type onlyWriter struct{ io.Writer }

// closed reports whether the kernel has given up a connection.
func closed(conn *net.TCPConn) (gone bool) {
	const stateClose = 7 // TCP_CLOSE
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		gone = err != nil || info.State == stateClose
	})
	return gone || err != nil
}

// pair returns two ends of one TCP connection on the loopback of this process's network.
func pair(ctx context.Context) (near, far *net.TCPConn, err error) {
	config := net.ListenConfig{Control: capture.ControlUrgent}
	config.SetMultipathTCP(false)
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer listener.Close()
	if near, err = (capture.Host{}).DialTCP(ctx, netip.Addr{}, listener.Addr().(*net.TCPAddr).AddrPort()); err != nil {
		return nil, nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		listener.(*net.TCPListener).SetDeadline(deadline)
	}
	for {
		accepted, err := listener.Accept()
		if err != nil {
			near.Close()
			return nil, nil, err
		}
		if accepted.RemoteAddr().String() == near.LocalAddr().String() { // others of this machine may dial it too
			far = accepted.(*net.TCPConn)
			break
		}
		accepted.Close()
	}
	// A near end that is gone, and not only half closed, shows by the probes.
	if err := far.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: lookEvery, Interval: lookEvery, Count: 3}); err != nil {
		near.Close()
		far.Close()
		return nil, nil, err
	}
	return near, far, nil
}
