package http2

import "bytes"

// unchunk reads the chunked coding that our own HTTP/1.1 engine writes, in whatever pieces.
// It is no judge of it: the engine has judged what came from outside.
type unchunk struct {
	state   uint8
	left    int64
	trailer []byte // lines, as far as they came
}

const (
	atChunkSize uint8 = iota
	inChunk
	atChunkEnd
	inTrailers
	chunksDone
)

// next returns the next piece of data in b, and what follows it. It is called until rest is
// empty.
func (u *unchunk) next(b []byte) (data, rest []byte, ok bool) {
	for len(b) > 0 {
		switch u.state {
		case atChunkSize:
			c := b[0]
			b = b[1:]
			switch {
			case c >= '0' && c <= '9':
				u.left = u.left<<4 | int64(c-'0')
			case c >= 'a' && c <= 'f':
				u.left = u.left<<4 | int64(c-'a'+10)
			case c == '\r':
			case c == '\n' && u.left == 0:
				u.state = inTrailers
			case c == '\n':
				u.state = inChunk
			default:
				return nil, nil, false
			}
			if u.left < 0 || u.left > 1<<40 {
				return nil, nil, false
			}
		case inChunk:
			n := min(u.left, int64(len(b)))
			if u.left -= n; u.left == 0 {
				u.state = atChunkEnd
			}
			return b[:n], b[n:], true
		case atChunkEnd:
			if b[0] == '\n' {
				u.state = atChunkSize
			}
			b = b[1:]
		case inTrailers:
			end := bytes.IndexByte(b, '\n')
			if end < 0 {
				u.trailer = append(u.trailer, b...)
				return nil, nil, len(u.trailer) <= 2*maxTrailerBytes
			}
			u.trailer = append(u.trailer, b[:end+1]...)
			b = b[end+1:]
			if n := len(u.trailer); n == 2 || n >= 4 && string(u.trailer[n-4:]) == "\r\n\r\n" {
				u.trailer = u.trailer[:n-2]
				u.state = chunksDone
				return nil, b, len(b) == 0
			}
			if len(u.trailer) > 2*maxTrailerBytes {
				return nil, nil, false
			}
		default:
			return nil, nil, false
		}
	}
	return nil, nil, true
}

// done says whether the body and its trailers were read.
func (u *unchunk) done() bool { return u.state == chunksDone }

func (u *unchunk) reset() { *u = unchunk{trailer: u.trailer[:0]} }
