package resolve

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Bounds of one question.
const (
	// AttemptTimeout is how long one server has for one question.
	AttemptTimeout = 2 * time.Second
	// AttemptsPerServer is how often each server is asked.
	AttemptsPerServer = 2
	// maxStrangers is how many packets that are no answer may come before a
	// question over UDP is given up: somebody is guessing.
	maxStrangers = 32
)

// Sockets makes the connections of a Resolver and a Dialer.
type Sockets interface {
	DialTCP(ctx context.Context, src netip.Addr, dst netip.AddrPort) (*net.TCPConn, error)
	DialUDP(ctx context.Context, dst netip.AddrPort) (net.Conn, error)
}

// ask asks the servers in turn until one knows: success or NXDOMAIN.
func (r *Resolver) ask(ctx context.Context, servers []netip.AddrPort, name string, typ dnsmessage.Type) (reply, error) {
	var last error
	for range AttemptsPerServer {
		for _, server := range servers {
			out, err := r.askServer(ctx, server, name, typ)
			if ctx.Err() == nil {
				r.health.note(server, isSilence(err), r.now())
			}
			if err == nil {
				return out, nil
			}
			last = fmt.Errorf("ask %s: %w", server, err)
			if ctx.Err() != nil {
				return reply{}, last
			}
		}
	}
	return reply{}, last
}

// askServer asks one server once: by UDP, without EDNS where it does not know
// that, and by TCP where UDP does not do.
func (r *Resolver) askServer(ctx context.Context, server netip.AddrPort, name string, typ dnsmessage.Type) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, r.attemptTimeout)
	defer cancel()
	edns := true
	out, err := exchange(ctx, overUDP, r.sockets, server, name, typ, edns)
	if err == nil && (out.rcode == dnsmessage.RCodeFormatError || out.rcode == dnsmessage.RCodeNotImplemented) {
		edns = false
		out, err = exchange(ctx, overUDP, r.sockets, server, name, typ, edns)
	}
	if errors.Is(err, errCase) || errors.Is(err, errOther) || err == nil && out.truncated {
		out, err = exchange(ctx, overTCP, r.sockets, server, name, typ, edns)
	}
	if err == nil && out.rcode != dnsmessage.RCodeSuccess && out.rcode != dnsmessage.RCodeNameError {
		err = fmt.Errorf("it says %s", rcodeText(out.rcode))
	}
	return out, err
}

func rcodeText(rcode dnsmessage.RCode) string {
	switch rcode {
	case dnsmessage.RCodeServerFailure:
		return "SERVFAIL"
	case dnsmessage.RCodeRefused:
		return "REFUSED"
	}
	return fmt.Sprintf("RCODE %d", rcode)
}

type transport func(ctx context.Context, sockets Sockets, server netip.AddrPort, r request) (reply, error)

func exchange(ctx context.Context, by transport, sockets Sockets, server netip.AddrPort, name string, typ dnsmessage.Type, edns bool) (reply, error) {
	r, err := newRequest(name, typ, edns)
	if err != nil {
		return reply{}, err
	}
	return by(ctx, sockets, server, r)
}

// overUDP sends a request from a port of its own, which the kernel chose.
func overUDP(ctx context.Context, sockets Sockets, server netip.AddrPort, r request) (reply, error) {
	conn, err := sockets.DialUDP(ctx, server)
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	defer endWith(ctx, conn)()
	if _, err := conn.Write(r.bytes); err != nil {
		return reply{}, err
	}
	in := make([]byte, udpSize)
	for range maxStrangers {
		n, err := conn.Read(in)
		if err != nil {
			return reply{}, err
		}
		out, err := parseReply(in[:n], r)
		if err != errOther {
			return out, err
		}
	}
	return reply{}, errOther
}

func overTCP(ctx context.Context, sockets Sockets, server netip.AddrPort, r request) (reply, error) {
	conn, err := sockets.DialTCP(ctx, netip.Addr{}, server)
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	defer endWith(ctx, conn)()
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(r.bytes))), r.bytes...)); err != nil {
		return reply{}, err
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return reply{}, err
	}
	message := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, message); err != nil {
		return reply{}, err
	}
	out, err := parseReply(message, r)
	if errors.Is(err, errCase) {
		// Nobody else can write into this connection, so the case proves nothing.
		r.name, err = spelledAs(message)
		if err == nil {
			out, err = parseReply(message, r)
		}
	}
	if err == nil && out.truncated {
		err = errors.New("the answer is cut off even over TCP")
	}
	return out, err
}

// spelledAs returns the name of a message's question.
func spelledAs(message []byte) (dnsmessage.Name, error) {
	var p dnsmessage.Parser
	if _, err := p.Start(message); err != nil {
		return dnsmessage.Name{}, err
	}
	q, err := p.Question()
	return q.Name, err
}

// endWith ends reads and writes with ctx, until the function that it returns is
// called.
func endWith(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
}
