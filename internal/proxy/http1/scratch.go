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

	smallIn, smallUp []byte // what a stream's began with; nil: it is of a connection
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
	if s.smallIn != nil {
		s.giveBackStream()
		return
	}
	if len(s.in) != inSize || cap(s.out) != outSize || len(s.up) != headRoom+upSize+tailRoom {
		return
	}
	s.chunks.reset(false)
	s.answer.reset(true)
	scratches.Put(s)
}
