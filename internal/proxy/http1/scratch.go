package http1

import "sync"

// Sizes of a scratch. A head that is larger than inSize makes its connection
// take larger buffers, for that head alone.
const (
	inSize   = 16 << 10
	outSize  = 20 << 10
	headRoom = 512 // before the answer: its head moves right, up to its body
	upSize   = 16 << 10
	tailRoom = 64 // after the answer: the end of a chunk
)

// scratch is what a connection needs while it is awake. It is taken on waking
// and given back before parking, so that an idle connection holds none.
type scratch struct {
	in  []byte // from the client
	out []byte // edited heads
	up  []byte // headRoom, the answer, tailRoom

	req, res head
	chunks   chunkDecoder // of the request
	answer   chunkDecoder
}

var scratches = sync.Pool{New: func() any {
	return &scratch{
		in:  make([]byte, inSize),
		out: make([]byte, 0, outSize),
		up:  make([]byte, headRoom+upSize+tailRoom),
	}
}}

// giveBack keeps a scratch of the usual size for the next connection.
func (s *scratch) giveBack() {
	if len(s.in) != inSize || cap(s.out) != outSize || len(s.up) != headRoom+upSize+tailRoom {
		return
	}
	s.chunks.reset(false)
	s.answer.reset(true)
	scratches.Put(s)
}

// growIn makes room for a head of n bytes.
func (s *scratch) growIn(n int) {
	larger := make([]byte, n)
	copy(larger, s.in)
	s.in = larger
}

// growUp makes room for an answer's head of n bytes.
func (s *scratch) growUp(n int) {
	larger := make([]byte, headRoom+n+tailRoom)
	copy(larger, s.up[:len(s.up)-tailRoom])
	s.up = larger
}
