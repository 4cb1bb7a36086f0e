package load

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// maxAnswer bounds an answer, in bytes: the body and a head of 3 KiB.
const maxAnswer = BodySize + 3<<10

// reader reads the answers of one connection and checks each.
type reader struct {
	from   io.Reader
	want   []byte // body
	buffer [maxAnswer]byte
}

var (
	endOfHead     = []byte("\r\n\r\n")
	statusOK      = []byte("HTTP/1.1 200 ")
	contentLength = []byte("content-length:")
)

// next reads one whole answer and reports what is wrong with it: status, length,
// a byte of the body, or bytes that nobody asked for.
func (r *reader) next() error {
	filled, head := 0, -1
	for {
		n, err := r.from.Read(r.buffer[filled:])
		filled += n
		if head < 0 {
			if at := bytes.Index(r.buffer[:filled], endOfHead); at >= 0 {
				head = at + len(endOfHead)
				if err := checkHead(r.buffer[:head], len(r.want)); err != nil {
					return err
				}
			}
		}
		if head >= 0 && filled >= head+len(r.want) {
			return checkBody(r.buffer[head:filled], r.want)
		}
		switch {
		case err == io.EOF:
			return fmt.Errorf("the answer ended after %d bytes: %w", filled, io.ErrUnexpectedEOF)
		case err != nil:
			return err
		case filled == len(r.buffer):
			return errors.New("the answer's head is too long")
		}
	}
}

func checkHead(head []byte, length int) error {
	if !bytes.HasPrefix(head, statusOK) {
		line, _, _ := bytes.Cut(head, []byte("\r\n"))
		return fmt.Errorf("the answer is %q", line)
	}
	for rest := head; ; {
		_, after, ok := bytes.Cut(rest, []byte("\r\n"))
		if !ok {
			return errors.New("the answer has no content-length")
		}
		rest = after
		if len(rest) < len(contentLength) || !bytes.EqualFold(rest[:len(contentLength)], contentLength) {
			continue
		}
		value, _, _ := bytes.Cut(rest[len(contentLength):], []byte("\r\n"))
		got, err := strconv.Atoi(string(bytes.TrimSpace(value)))
		if err != nil || got != length {
			return fmt.Errorf("the answer's content-length is %q, not %d", bytes.TrimSpace(value), length)
		}
		return nil
	}
}

func checkBody(got, want []byte) error {
	if len(got) > len(want) {
		return fmt.Errorf("%d bytes follow the answer", len(got)-len(want))
	}
	if bytes.Equal(got, want) {
		return nil
	}
	for i := range want {
		if got[i] != want[i] {
			return fmt.Errorf("byte %d of the body is %q, not %q", i, got[i], want[i])
		}
	}
	return nil
}
