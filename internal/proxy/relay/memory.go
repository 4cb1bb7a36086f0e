package relay

import "sync"

// Bounds of what relays hold, in bytes and in number.
const (
	// bufferSize is what a direction copies through. It is held only while bytes
	// wait to be written.
	bufferSize = 16 << 10
	// pipeSize is what a bulky direction holds in the kernel.
	pipeSize = 1 << 20
	// MaxPipes bounds the pipes of one Memory; a direction that gets none copies.
	// The kernel lets an ordinary user have 64 MiB in pipes by default; where it
	// gives fewer, no more are asked for.
	MaxPipes = 32
)

// Memory is where the relays of one process take buffers and pipes from, and hear of
// resets that they do not read. The zero value is ready. Close it when no relay runs any more.
type Memory struct {
	buffers sync.Pool
	hangups hangups
	marks   marks

	mu    sync.Mutex
	free  []*pipe // at most MaxPipes
	alive int     // free and lent
	none  bool    // no further pipe is made: closed, or the kernel gave none
	spent bool    // closed: nothing is kept any more
}

// Close gives the pipes back to the kernel. A pipe that is still lent is closed
// when its relay gives it back.
func (m *Memory) Close() {
	m.hangups.close()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.spent, m.none = true, true
	for _, p := range m.free {
		p.close()
	}
	m.alive -= len(m.free)
	m.free = nil
}

func (m *Memory) buffer() *[bufferSize]byte {
	if b, ok := m.buffers.Get().(*[bufferSize]byte); ok {
		return b
	}
	return new([bufferSize]byte)
}

func (m *Memory) giveBackBuffer(b *[bufferSize]byte) { m.buffers.Put(b) }

// pipe lends an empty pipe, or nil where none is to be had.
func (m *Memory) pipe() *pipe {
	m.mu.Lock()
	defer m.mu.Unlock()
	if last := len(m.free) - 1; last >= 0 {
		p := m.free[last]
		m.free = m.free[:last]
		return p
	}
	if m.none || m.alive == MaxPipes {
		return nil
	}
	p, err := newPipe(pipeSize)
	if err != nil {
		m.none = true // out of descriptors or of the user's share: copying goes on
		return nil
	}
	m.alive++
	return p
}

func (m *Memory) giveBackPipe(p *pipe) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.spent {
		m.alive--
		p.close()
		return
	}
	m.free = append(m.free, p)
}

// discardPipe closes a pipe that is not empty.
func (m *Memory) discardPipe(p *pipe) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.alive--
	p.close()
}
