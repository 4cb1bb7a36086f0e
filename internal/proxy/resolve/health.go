package resolve

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	// SilentFor is how long a DNS server that gave no answer is asked after all
	// others: each lookup would else wait AttemptTimeout for it.
	SilentFor = 30 * time.Second
	// maxSilent is how many silent servers are remembered; past it all are
	// forgotten.
	maxSilent = 16
)

// health knows which DNS servers were silent lately. The zero value is ready.
type health struct {
	mu     sync.Mutex
	silent map[netip.AddrPort]time.Time // until when
}

// order returns the servers as they should be asked: those that were silent
// lately after the others, and otherwise as they stand.
func (h *health) order(servers []netip.AddrPort, now time.Time) []netip.AddrPort {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.silent) == 0 {
		return servers
	}
	var ordered, last []netip.AddrPort
	for _, s := range servers {
		if now.Before(h.silent[s]) {
			last = append(last, s)
		} else {
			ordered = append(ordered, s)
		}
	}
	return slices.Concat(ordered, last)
}

// note remembers what came of asking a server.
func (h *health) note(server netip.AddrPort, silent bool, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !silent {
		delete(h.silent, server)
		return
	}
	if h.silent == nil || len(h.silent) >= maxSilent {
		h.silent = make(map[netip.AddrPort]time.Time)
	}
	h.silent[server] = now.Add(SilentFor)
}

// isSilence reports whether err means that nobody answered at a server: it is
// not there, or too far away. One that answers badly is not silent.
func isSilence(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH)
}
