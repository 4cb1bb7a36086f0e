package upstream

import (
	"encoding/binary"
	"errors"
	"syscall"

	"sluice.dev/sluice/internal/proxy/rawio"
)

// quiet says whether an idle connection may serve another exchange: its peer is
// there, and has said nothing since the last answer ended. What it says unasked
// would be taken for the answer to the next request, so there is no time within
// which this goes without looking. One system call; it never waits.
func (c *Conn) quiet() bool {
	if c.tls == nil {
		return rawio.Quiet(c.fd)
	}
	// crypto/tls may hold records that came with the last answer, so that the socket
	// says nothing of them; and what the socket says may be a ticket or a key update,
	// which only keep the connection going. Reading tells them apart, and deals with
	// the latter.
	n, err := c.tls.Read(c.unasked[:])
	return n == 0 && errors.Is(err, syscall.EAGAIN) && c.under.framing.between() && c.sendCollected()
}

// sendCollected sends what crypto/tls wrote while it read, such as an answer to a
// key update, if there is room for it in the socket's buffer.
func (c *Conn) sendCollected() bool {
	records := c.under.records
	if len(records) == 0 {
		return true
	}
	c.under.records = nil
	n, errno := rawio.Write(c.fd, records)
	keepRecords(records)
	return errno == 0 && n == len(records)
}

// framing follows the records of TLS in a stream (RFC 8446, section 5.1): half a
// record is more than nothing, though nobody can say yet what it holds.
type framing struct {
	header [5]byte
	have   int // bytes of header
	left   int // bytes of the record behind it
}

// pass takes the next bytes of the stream.
func (f *framing) pass(b []byte) {
	for len(b) > 0 {
		if f.left > 0 {
			n := min(f.left, len(b))
			f.left -= n
			b = b[n:]
			continue
		}
		n := copy(f.header[f.have:], b)
		f.have += n
		b = b[n:]
		if f.have == len(f.header) {
			f.have, f.left = 0, int(binary.BigEndian.Uint16(f.header[3:]))
		}
	}
}

// between says whether the stream ends between two records.
func (f *framing) between() bool { return f.have == 0 && f.left == 0 }
