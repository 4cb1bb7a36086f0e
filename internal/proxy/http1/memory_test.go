package http1

import "testing"

// A stream takes more for the sake of speed while there is any; what its head needs it gets, and
// what it took it gives back.
func TestAStreamTakesWhatItNeedsAndBesideOnlyWhatThereIs(t *testing.T) {
	s := NewServer(Config{Limits: Limits{MaxStreamBytes: 2 * pumpSize}})
	one, two, three := streamConn(s), streamConn(s), streamConn(s)
	if !one.growIn(inSize, true) || !two.growUp(upSize, true) || len(one.scratch.in) != inSize || len(two.scratch.up) != headRoom+upSize+tailRoom {
		t.Error("there is less than there may be")
	}
	p, q := &pump{conn: one}, &pump{conn: two}
	p.takeBuffer()
	q.takeBuffer()
	if p.widen(); len(p.buffer) != len(pumpBuffer{}) {
		t.Error("a pump gets less than there may be")
	}
	if q.widen(); len(q.buffer) != len(streamPumpBuffer{}) {
		t.Error("a pump takes what there is not")
	}
	if three.growIn(inSize, true) || len(three.scratch.in) != streamIn || s.memory.used.Load() > s.memory.most {
		t.Errorf("%d bytes are taken of %d", s.memory.used.Load(), s.memory.most)
	}
	if !three.growIn(60<<10, false) || len(three.scratch.in) != inSize || !three.growIn(60<<10, false) || len(three.scratch.in) != 60<<10 {
		t.Errorf("a head gets %d bytes", len(three.scratch.in))
	}
	p.giveBackBuffer()
	one.release()
	two.release()
	if q.widen(); len(q.buffer) != len(pumpBuffer{}) {
		t.Error("what was given back is not there")
	}
	q.giveBackBuffer()
	three.release()
	if n := s.memory.used.Load(); n != 0 {
		t.Errorf("%d bytes are not given back", n)
	}
	if again := streamConn(s); len(again.scratch.in) != streamIn || len(again.scratch.up) != headRoom+streamUp+tailRoom {
		t.Error("the next begins with what another took")
	}
}

func streamConn(s *Server) *conn {
	d := &conn{server: s, stream: struct{ Stream }{}}
	d.takeScratch()
	return d
}
