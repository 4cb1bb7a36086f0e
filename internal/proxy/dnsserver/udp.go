package dnsserver

import (
	"errors"
	"fmt"
	"net"

	"sluice.dev/sluice/internal/capture"
)

// ServeUDP answers the questions that come to a DNS socket of a capture, one
// after the other, each from the address that was asked, until conn is closed;
// then it returns nil. An answer that cannot be sent is lost, as on any network.
func (s *Server) ServeUDP(conn *net.UDPConn) error {
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
		if reply := s.Answer(q.Data, out); reply != nil {
			if err := capture.WriteAnswer(conn, reply, q.Asked, q.From); err != nil && errors.Is(err, net.ErrClosed) {
				return nil
			}
		}
	}
}
