package dnsserver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Bounds of DNS over TCP.
const (
	// IdleTimeout is how long a connection may be without a whole question.
	IdleTimeout = 10 * time.Second
	// WriteTimeout is how long a client may take to take a reply.
	WriteTimeout = 5 * time.Second
	// maxQuestion bounds a question on TCP, in bytes: header, one question and
	// generous options. A longer one ends the connection.
	maxQuestion = 4096
	// maxMessage bounds a reply on TCP, in bytes.
	maxMessage = 1<<16 - 1
	// QuestionsPerConnection bounds what one connection may ask.
	QuestionsPerConnection = 1000
)

// ServeTCP answers the questions on one connection, one after the other (RFC
// 7766), until the client ends it, it breaks a bound, or ctx is done. It closes
// conn. The error is nil when the client ended it between two questions.
func (s *Server) ServeTCP(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	in := make([]byte, 2+512)
	out := make([]byte, 2+MaxReply)
	for range QuestionsPerConnection {
		if err := conn.SetReadDeadline(time.Now().Add(IdleTimeout)); err != nil {
			return fmt.Errorf("read a DNS question: %w", err)
		}
		if _, err := io.ReadFull(conn, in[:2]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("read a DNS question: %w", err)
		}
		length := int(binary.BigEndian.Uint16(in))
		if length > maxQuestion {
			return fmt.Errorf("read a DNS question: %d bytes are more than %d", length, maxQuestion)
		}
		if length > len(in) {
			in = make([]byte, maxQuestion)
		}
		if _, err := io.ReadFull(conn, in[:length]); err != nil {
			return fmt.Errorf("read a DNS question: %w", err)
		}
		reply := s.answerWithin(ctx, in[:length], out[2:], maxMessage)
		if reply == nil {
			return errors.New("read a DNS question: it is none")
		}
		if len(reply) > len(out)-2 { // the records of upstream: it is elsewhere
			out = append(out[:2], reply...)
		}
		binary.BigEndian.PutUint16(out, uint16(len(reply)))
		if err := conn.SetWriteDeadline(time.Now().Add(WriteTimeout)); err != nil {
			return fmt.Errorf("write a DNS answer: %w", err)
		}
		if _, err := conn.Write(out[:2+len(reply)]); err != nil {
			return fmt.Errorf("write a DNS answer: %w", err)
		}
	}
	return fmt.Errorf("read a DNS question: more than %d on one connection", QuestionsPerConnection)
}
