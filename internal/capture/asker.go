package capture

import (
	"encoding/json"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// AnswerTimeout is how long a connection is held back for an answer. It then goes on,
	// and shows later what becomes of it. It is below the time at which the kernel gives a
	// SYN up: see synRetries.
	AnswerTimeout = 12 * time.Second
	// ReadyTimeout is how long a command waits to start for what its proxy says of the
	// rules. It is there already where the proxy is one of this version.
	ReadyTimeout = 2 * time.Second
	// maxAlways bounds the destinations that are known not to be asked about; at the bound
	// all are forgotten.
	maxAlways = 1024
)

// Asker asks, in the namespace of a workload, what will become of a connection, before
// its SYN leaves. Whoever performs the connects of the workload holds it: a connection to
// which Asks says yes is made from a socket with HeldMark and then given to Begun. It is
// safe for concurrent use.
type Asker struct {
	conn *net.UnixConn
	raw  syscall.RawConn // of conn
	hold *holder

	inUse  atomic.Pointer[inUse] // nil until the other end has said something
	ready  chan struct{}         // closed then, or at the end
	number atomic.Uint64

	mu      sync.Mutex
	waiting map[uint64]*Pending // by the number of its question; nil at the end
}

// inUse is what is known of the rules that are in force.
type inUse struct {
	rules uint64
	quiet []uint16

	mu     sync.Mutex
	always map[netip.AddrPort]struct{}
}

// Pending is one connection whose outcome is not known yet.
type Pending struct {
	held    *heldSYN
	settled chan struct{}
	errno   syscall.Errno
	timer   *time.Timer
}

// Settled is closed when the outcome is known and the socket has it, or will have it in a
// moment.
func (p *Pending) Settled() <-chan struct{} { return p.settled }

// TimedOut reports, once it is settled, whether the outcome is ETIMEDOUT. Nothing that is
// sent to a socket gives it that error: it has to be told, or comes to it by itself.
func (p *Pending) TimedOut() bool { return p.errno == unix.ETIMEDOUT }

func newAsker(conn *net.UnixConn, hold *holder) (*Asker, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	a := &Asker{conn: conn, raw: raw, hold: hold, ready: make(chan struct{}), waiting: make(map[uint64]*Pending)}
	go a.listen()
	return a, nil
}

// Await returns when the other end has said which rules are in force or is gone, and
// after ReadyTimeout. A connect of before would not be asked about.
func (a *Asker) Await() {
	select {
	case <-a.ready:
	case <-time.After(ReadyTimeout):
	}
}

// Asks reports whether a connection to an address is to be held back. Once it has said
// yes it costs no system call.
func (a *Asker) Asks(to netip.AddrPort) bool {
	now := a.inUse.Load()
	if now == nil || to.Port() == dnsPort || slices.Contains(now.quiet, to.Port()) || Local(to) {
		return false
	}
	now.mu.Lock()
	_, always := now.always[to]
	now.mu.Unlock()
	if always || !a.hold.holds(to.Addr().Is4()) {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.waiting != nil && len(a.waiting) < MaxQuestions
}

// Begun takes a connection that has begun from a socket with HeldMark.
func (a *Asker) Begun(from, to netip.AddrPort) *Pending {
	p := &Pending{held: a.hold.hold(route{from, to}), settled: make(chan struct{})}
	number := a.number.Add(1)
	a.mu.Lock()
	ended := a.waiting == nil
	if !ended {
		p.timer = time.AfterFunc(AnswerTimeout, func() { a.settle(number, 0) })
		a.waiting[number] = p
	}
	a.mu.Unlock()
	if ended {
		go a.finish(p, 0)
		return p
	}
	if !a.ask(asked{Format: questionsFormat, Number: number, Connecting: Connecting{To: to, From: from}}) {
		a.settle(number, 0)
	}
	return p
}

// ask sends a question, and does not wait where a proxy that was stopped reads none.
func (a *Asker) ask(question asked) (sent bool) {
	message, err := json.Marshal(question)
	if err != nil {
		return false
	}
	a.raw.Write(func(fd uintptr) bool {
		_, err := unix.SendmsgN(int(fd), message, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		sent = err == nil
		return true
	})
	return sent
}

// settle ends the wait of a question, once.
func (a *Asker) settle(number uint64, errno syscall.Errno) {
	a.mu.Lock()
	p := a.waiting[number]
	delete(a.waiting, number)
	a.mu.Unlock()
	if p != nil {
		p.timer.Stop()
		a.finish(p, errno)
	}
}

// finish gives a connection its outcome. One that timed out goes on waiting in vain, as it
// would without us: its socket has nobody who answers.
func (a *Asker) finish(p *Pending, errno syscall.Errno) {
	p.errno = errno
	if errno == unix.ETIMEDOUT {
		a.hold.forget(p.held)
		close(p.settled)
		return
	}
	if a.hold.let(p.held, errno) {
		close(p.settled)
		return
	}
	go func() {
		a.hold.letLater(p.held, errno)
		close(p.settled)
	}()
}

// listen takes what the proxy says until it is gone, or says what makes no sense: then
// nothing is asked any more, and what waits goes on.
func (a *Asker) listen() {
	var once sync.Once
	ready := func() { once.Do(func() { close(a.ready) }) }
	defer ready()
	defer a.end()
	var buffer [maxQuestionSize + 1]byte
	for {
		b, err := receiveMessage(a.conn, &buffer)
		if err != nil {
			return
		}
		said, err := decodeTold(b)
		if err != nil {
			return
		}
		if said.InUse != nil {
			a.inUse.Store(&inUse{rules: said.Rules, quiet: said.InUse.Quiet, always: make(map[netip.AddrPort]struct{})})
			ready()
			continue
		}
		if said.Always {
			a.remember(said.Number, said.Rules)
		}
		a.settle(said.Number, syscall.Errno(said.Errno))
	}
}

// remember notes that the destination of a question is not to be asked about while the
// rules are those by which it was answered.
func (a *Asker) remember(number, rules uint64) {
	a.mu.Lock()
	p := a.waiting[number]
	a.mu.Unlock()
	now := a.inUse.Load()
	if p == nil || now == nil || now.rules != rules {
		return
	}
	now.mu.Lock()
	defer now.mu.Unlock()
	if len(now.always) >= maxAlways {
		clear(now.always)
	}
	now.always[p.held.to] = struct{}{}
}

func (a *Asker) end() {
	a.inUse.Store(nil)
	a.mu.Lock()
	left := a.waiting
	a.waiting = nil
	a.mu.Unlock()
	for _, p := range left {
		p.timer.Stop()
		a.finish(p, 0)
	}
	a.conn.Close()
}
