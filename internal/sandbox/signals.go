package sandbox

import (
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture/seqpacket"
)

const (
	// A signal to the whole group reaches our parent, us and the command in one
	// loop of the kernel, within microseconds. So long is waited for ours when our
	// parent tells of its own…
	groupSignalWait = 20 * time.Millisecond
	// …and so old may ours be.
	groupSignalAge = time.Second

	// marker is a signal that init sends itself. The kernel hands lower numbers
	// over first, so when it arrives, so has what was sent before it, however
	// late a busy machine lets init run. It is not one that a libc keeps.
	marker = syscall.Signal(63)
	// markerWait bounds the wait for it: a command may flood init with signals,
	// and those above the channel's length are dropped.
	markerWait = time.Second
)

// receiveSignals takes all signals, so that none ends init: a terminal's ^C
// reaches it too. Ignoring would not do, for what is ignored stays so in the
// command; what was ignored before, as nohup does, is left so.
func receiveSignals() <-chan os.Signal {
	const largest = 64
	var taken []os.Signal
	for number := syscall.Signal(1); number <= largest; number++ {
		if !signal.Ignored(number) {
			taken = append(taken, number)
		}
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, taken...)
	return signals
}

// deliver hands the command the signals that our parent tells of, until that is
// gone; then the sandbox ends.
// In a session of its own the whole job goes on again, as the kernel stopped it.
func deliver(control *net.UnixConn, seen *seenSignals, command int, session bool) {
	for {
		var told order
		if _, err := seqpacket.Receive(control, &told, 0); err != nil {
			os.Exit(exitKilled) // PID 1 ends: the kernel kills the rest
		}
		sent := syscall.Signal(told.Signal)
		if session && sent == unix.SIGCONT {
			unix.Kill(-command, sent)
			continue
		}
		if reachedGroup(seen, command, sent) {
			continue
		}
		unix.Kill(command, sent) // an error says that it has ended
	}
}

// tellStops tells our parent that the command was stopped alone, so that it
// stops too and the shell around it takes the terminal back.
func tellStops(control *net.UnixConn, seen *seenSignals, command int, stops <-chan unix.Signal) {
	for by := range stops {
		if !reachedGroup(seen, command, by) { // else it stopped our parent as well
			seqpacket.Send(control, note{Stopped: true}) // an error says that it is gone
		}
	}
}

// reachedGroup says whether the command got a signal together with our parent. A
// shell inside gives the command a group of its own; then what was sent to ours
// did not reach it.
func reachedGroup(seen *seenSignals, command int, sent syscall.Signal) bool {
	group, err := unix.Getpgid(command)
	return err == nil && group == unix.Getpgrp() && seen.take(sent)
}

// seenSignals notes which signals came to init itself: nobody sends to it alone,
// so they came to the whole process group.
type seenSignals struct {
	mu   sync.Mutex
	last map[syscall.Signal]time.Time
	news chan struct{}
	mark chan struct{}
}

func newSeenSignals() *seenSignals {
	return &seenSignals{last: make(map[syscall.Signal]time.Time), news: make(chan struct{}, 1), mark: make(chan struct{}, 1)}
}

// watch notes signals for as long as init lives.
func (g *seenSignals) watch(signals <-chan os.Signal) {
	for received := range signals {
		told := g.news
		if received == marker {
			told = g.mark
		} else {
			g.mu.Lock()
			g.last[received.(syscall.Signal)] = time.Now()
			g.mu.Unlock()
		}
		select {
		case told <- struct{}{}:
		default:
		}
	}
}

// take says whether init got the signal too, and forgets it.
func (g *seenSignals) take(wanted syscall.Signal) bool {
	deadline := time.NewTimer(groupSignalWait)
	defer deadline.Stop()
	for {
		if g.forget(wanted) {
			return true
		}
		select {
		case <-g.news:
		case <-deadline.C:
			g.flush()
			return g.forget(wanted)
		}
	}
}

func (g *seenSignals) forget(wanted syscall.Signal) (seen bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at, seen := g.last[wanted]
	delete(g.last, wanted)
	return seen && time.Since(at) < groupSignalAge
}

// flush waits until what was sent to init is noted.
func (g *seenSignals) flush() {
	select {
	case <-g.mark: // of a flush that was given up
	default:
	}
	unix.Kill(unix.Getpid(), marker)
	deadline := time.NewTimer(markerWait)
	defer deadline.Stop()
	select {
	case <-g.mark:
	case <-deadline.C:
	}
}
