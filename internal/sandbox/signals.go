package sandbox

import (
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture/seqpacket"
)

const (
	// A signal to the whole group reaches our parent, us and the command within
	// microseconds. So long is waited for ours when our parent tells of its own…
	groupSignalWait = 20 * time.Millisecond
	// …and so old may ours be.
	groupSignalAge = time.Second
)

// deliver hands the command the signals that our parent tells of, until that is
// gone; then the sandbox ends.
func deliver(control *net.UnixConn, signals <-chan os.Signal, command int) {
	seen := groupSignals{last: make(map[syscall.Signal]time.Time), news: make(chan struct{}, 1)}
	go seen.watch(signals)
	for {
		var told order
		if _, err := seqpacket.Receive(control, &told, 0); err != nil {
			os.Exit(exitKilled) // PID 1 ends: the kernel kills the rest
		}
		sent := syscall.Signal(told.Signal)
		// A shell inside gives the command a group of its own; then what was sent
		// to ours did not reach it.
		group, err := unix.Getpgid(command)
		if err == nil && group == unix.Getpgrp() && seen.take(sent) {
			continue
		}
		unix.Kill(command, sent) // an error says that it has ended
	}
}

// groupSignals notes which signals came to init itself: nobody sends to it
// alone, so they came to the whole process group.
type groupSignals struct {
	mu   sync.Mutex
	last map[syscall.Signal]time.Time
	news chan struct{}
}

func (g *groupSignals) watch(signals <-chan os.Signal) {
	for received := range signals {
		g.mu.Lock()
		g.last[received.(syscall.Signal)] = time.Now()
		g.mu.Unlock()
		select {
		case g.news <- struct{}{}:
		default:
		}
	}
}

// take says whether init got the signal too, and forgets it.
func (g *groupSignals) take(wanted syscall.Signal) bool {
	deadline := time.NewTimer(groupSignalWait)
	defer deadline.Stop()
	for {
		g.mu.Lock()
		at, ok := g.last[wanted]
		delete(g.last, wanted)
		g.mu.Unlock()
		if ok && time.Since(at) < groupSignalAge {
			return true
		}
		select {
		case <-g.news:
		case <-deadline.C:
			return false
		}
	}
}
