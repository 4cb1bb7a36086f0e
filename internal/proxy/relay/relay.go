// Package relay carries the bytes of an allowed connection both ways, as they
// are: passed-through TLS and TCP. The proxy calls it once the upstream is
// dialled, with the bytes that were read while sniffing. It never looks at what
// it carries, never decides, and holds a bounded amount of it.
package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"sluice.dev/sluice/internal/proxy/share"
)

// DefaultIdle is how long a relay may move nothing.
const DefaultIdle = time.Hour

// Config is one relay's. Down, Up and Memory must be set.
type Config struct {
	Down *net.TCPConn // from the workload
	Up   *net.TCPConn // to the destination
	// Prefix is what the workload sent already; it goes to Up first.
	Prefix []byte
	// PrefixDone, if set, is called once Prefix is no longer needed.
	PrefixDone func()
	// Idle is how long nothing may move in either direction, to within a quarter
	// of it; then both sides are reset. 0 takes DefaultIdle, less than 0 never.
	Idle time.Duration
	// Memory is where buffers and pipes come from, shared by a process's relays.
	Memory *Memory
	// Pipes, where not nil, is how many of its pipes may be taken: a direction that may
	// have none copies.
	Pipes *share.Member
	// Begun is how far somebody else has carried the directions, by the Side that they read
	// from.
	Begun [2]Begun
}

// Begun is one direction that somebody else has begun to carry.
type Begun struct {
	Moved int64
	Left  []byte // was read and not written yet; it is the relay's
	Ended bool   // the side has sent FIN
}

// Errors of Result.Err that are not one side's own.
var (
	// ErrIdle says that nothing moved for Config.Idle.
	ErrIdle = errors.New("nothing moved for too long")
	// ErrAborted says that Abort was called.
	ErrAborted = errors.New("relay was aborted")
)

// Side is one of the two ends.
type Side uint8

// The sides.
const (
	Downstream Side = iota // the workload
	Upstream               // the destination
)

func (s Side) String() string {
	if s == Downstream {
		return "downstream"
	}
	return "upstream"
}

// SideError says that one side's socket failed: most often ECONNRESET.
type SideError struct {
	Side Side
	Op   string // "read", "write"
	Err  error
}

func (e *SideError) Error() string { return fmt.Sprintf("%s %s: %v", e.Op, e.Side, e.Err) }

// Unwrap returns the socket's error.
func (e *SideError) Unwrap() error { return e.Err }

// Result is a relay's account.
type Result struct {
	Sent     int64 // bytes of the workload that the destination's socket took
	Received int64 // bytes of the destination that the workload's socket took
	// Err is nil when both sides ended with FIN; else *SideError, ErrIdle,
	// ErrAborted or the context's cause. Both sides were then reset.
	Err error
}

// Relay is one connection's way through. It owns both sockets from New on: Run
// closes them. Where the server may speak first, Greet and Pause come before Run.
type Relay struct {
	config Config
	raw    [2]syscall.RawConn // by Side
	ways   [2]way             // by the Side that they read from
	failed atomic.Pointer[failure]

	greeting chan struct{} // closed when what Greet began has ended
	pausing  atomic.Bool   // Pause waits for it
}

// failure is why a relay ends otherwise than by two FINs; the first one counts.
type failure struct{ err error }

// New returns a relay between the two sockets of config. It must be Run.
func New(config Config) *Relay {
	r := &Relay{config: config}
	r.ways[Downstream].init(r, Downstream)
	r.ways[Upstream].init(r, Upstream)
	return r
}

// Sent returns the bytes that the destination's socket took so far.
func (r *Relay) Sent() int64 { return r.ways[Downstream].moved.Load() }

// Received returns the bytes that the workload's socket took so far.
func (r *Relay) Received() int64 { return r.ways[Upstream].moved.Load() }

// Abort ends Run at once and resets both sides. It may be called from anywhere,
// at any time, and more than once.
func (r *Relay) Abort() { r.fail(ErrAborted) }

// Say gives what the workload sent meanwhile, in place of Config.Prefix and PrefixDone,
// to a relay that does not run yet.
func (r *Relay) Say(prefix []byte, done func()) { r.config.Prefix, r.config.PrefixDone = prefix, done }

// SetIdle takes the place of Config.Idle, in a relay that does not run yet.
func (r *Relay) SetIdle(idle time.Duration) { r.config.Idle = idle }

// Run carries bytes until both sides have ended, one of them fails, nothing
// moves for too long, ctx ends or Abort is called. The end of one side (FIN) is
// passed on to the other when all bytes before it are, and the other direction
// goes on; a reset is passed on as a reset. Run closes both sockets before it
// returns, and leaves no goroutine behind.
func (r *Relay) Run(ctx context.Context) Result {
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() { r.fail(context.Cause(ctx)) })
		defer stop()
	}
	watch := r.watchIdle()
	defer watch.stop()

	if err := r.open(); err != nil {
		r.fail(err)
	} else {
		received := make(chan struct{})
		go func() {
			defer close(received)
			r.ways[Upstream].run()
		}()
		r.sendPrefix()
		r.ways[Downstream].run()
		<-received
	}
	return r.close()
}

func (r *Relay) open() error {
	for side, conn := range [2]*net.TCPConn{r.config.Down, r.config.Up} {
		raw, err := conn.SyscallConn()
		if err != nil {
			return &SideError{Side(side), "open", err}
		}
		r.raw[side] = raw
	}
	return nil
}

func (r *Relay) sendPrefix() {
	if len(r.config.Prefix) > 0 {
		r.ways[Downstream].write(r.config.Prefix)
		r.config.Prefix = nil
	}
	if r.config.PrefixDone != nil {
		r.config.PrefixDone()
	}
}

// fail ends both directions. The sockets stay open until both have returned, so
// that no descriptor is used after it was closed and given to somebody else: a
// deadline in the past is what wakes them.
func (r *Relay) fail(err error) {
	if !r.failed.CompareAndSwap(nil, &failure{err}) {
		return
	}
	r.interrupt()
}

// interrupt wakes whoever waits for one of the sockets.
func (r *Relay) interrupt() {
	past := time.Unix(1, 0)
	r.config.Down.SetDeadline(past)
	r.config.Up.SetDeadline(past)
}

func (r *Relay) close() Result {
	result := Result{Sent: r.Sent(), Received: r.Received()}
	if failed := r.failed.Load(); failed != nil {
		result.Err = failed.err
		r.config.Down.SetLinger(0)
		r.config.Up.SetLinger(0)
	}
	r.release()
	r.config.Down.Close()
	r.config.Up.Close()
	return result
}

// sideFailed ends the relay because of one side's socket. Where fail was called
// before, its reason stays: the deadline that it set is what comes here then.
func (r *Relay) sideFailed(side Side, op string, err error) {
	r.fail(&SideError{side, op, err})
}
