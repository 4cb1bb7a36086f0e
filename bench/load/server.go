package load

import (
	"bytes"
	"errors"
	"net"
)

// maxHead bounds a request's head, in bytes.
const maxHead = 4 << 10

// Serve answers the clients' requests on connections of l, until l closes.
func Serve(l net.Listener) error {
	answers := allAnswers()
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go serve(conn, answers)
	}
}

// serve answers one request after the other. A client that sends two at once, or
// a body, is none of ours and is hung up on.
func serve(conn net.Conn, answers *[MaxConns][]byte) {
	defer conn.Close()
	var buffer [maxHead]byte
	filled := 0
	for {
		n, err := conn.Read(buffer[filled:])
		if err != nil {
			return
		}
		filled += n
		end := bytes.Index(buffer[:filled], endOfHead)
		switch {
		case end < 0 && filled < maxHead:
			continue
		case end+len(endOfHead) != filled:
			return
		}
		if _, err := conn.Write(answer(buffer[:filled], answers)); err != nil {
			return
		}
		filled = 0
	}
}
