package dnsserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"sluice.dev/sluice/internal/capture"
)

// ServeUDP answers the questions that come to a DNS socket of a capture, one
// after the other, each from the address that was asked, until conn is closed;
// then it returns nil. An answer that cannot be sent is lost, as on any network.
func (s *Server) ServeUDP(conn *net.UDPConn) error {
	ctx, end := context.WithCancel(context.Background())
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer end()
	var q capture.Question
	out := make([]byte, 0, MaxReply)
	for {
		err := capture.ReadQuestion(conn, &q)
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case errors.Is(err, capture.ErrNoOriginalDestination):
			continue // one packet that cannot be answered is not the end of DNS
		case err != nil:
			return fmt.Errorf("read a DNS question: %w", err)
		}
		read, a, ok := s.begin(q.Data)
		switch {
		case !ok:
		case a.pending != nothing:
			s.later(ctx, &waiting, conn, read, a, q.Asked, q.From)
		default:
			if err := capture.WriteAnswer(conn, s.finish(&read, a, out, 0), q.Asked, q.From); err != nil && errors.Is(err, net.ErrClosed) {
				return nil
			}
		}
	}
}

// later answers a question that waits for our own DNS, beside those that come meanwhile.
// It is apart from ServeUDP so that the others allocate nothing.
//
//go:noinline
func (s *Server) later(ctx context.Context, waiting *sync.WaitGroup, conn *net.UDPConn, q question, a answer, asked, from netip.AddrPort) {
	if !s.mayWait() {
		capture.WriteAnswer(conn, s.finish(&q, tooManyWait, nil, 0), asked, from)
		return
	}
	q.wire = bytes.Clone(q.wire)
	waiting.Go(func() {
		a := s.await(ctx, &q, a)
		capture.WriteAnswer(conn, s.finish(&q, a, nil, 0), asked, from) // lost where it cannot be sent
	})
}
