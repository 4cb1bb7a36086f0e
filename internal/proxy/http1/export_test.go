package http1

import (
	"context"
	"runtime"
	"strings"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/refusal"
)

// The states of a connection, for tests that let time pass only once one is
// reached.
const (
	Idle    = idle
	Reading = reading
	Waiting = waiting
	Moving  = moving
	Fresh   = fresh
)

// IdleLeast is idleLeast.
const IdleLeast = idleLeast

// Idle counts the connections that wait for a request, but their first.
func (s *Server) Idle() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := s.newest; d != nil; d = d.older {
		if _, p, _ := d.watch.look(); p == idle {
			n++
		}
	}
	return n
}

// InPhase says whether every connection of the server is in that phase.
func (s *Server) InPhase(want phase) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := s.newest; d != nil; d = d.older {
		if _, p, _ := d.watch.look(); p != want {
			return false
		}
	}
	return s.newest != nil
}

// HoldHeads sets how long the head of a chunked answer waits for its body.
func (s *Server) HoldHeads(d time.Duration) { s.holdTime = d }

// WaitForBodies sets how long the rest of a short body is waited for.
func (s *Server) WaitForBodies(d time.Duration) { s.patience = d }

// Sweep ends what is over at the test's time, without waiting for the sweeper.
func (s *Server) Sweep() { s.sweep(s.now()) }

// Asleep counts the connections that are parked.
func (s *Server) Asleep() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := s.newest; d != nil; d = d.older {
		if d.place.parked.Load() {
			n++
		}
	}
	return n
}

// Call calls every connection that waits for a request on its goroutine.
func (s *Server) Call() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := s.newest; d != nil; d = d.older {
		if word, p, _ := d.watch.look(); p == idle && !d.place.parked.Load() {
			d.call(word)
		}
	}
}

// Settles says how often it is said that many connections have come, where the sweeper
// finds these numbers of them.
func Settles(looks ...uint32) (said int) {
	s := settled{tell: func() { said++ }}
	for _, taken := range looks {
		s.look(taken)
	}
	return said
}

// Parked counts the goroutines with this call on their stacks that wait for a
// socket: "http1.(*pump).run".
func Parked(call string) (count int) {
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		state, calls, _ := strings.Cut(stack, "\n")
		if strings.Contains(state, "[IO wait") && strings.Contains(calls, "/"+call+"(") {
			count++
		}
	}
	return count
}

// Causes returns the text of each cause that has one.
func Causes(l Limits) (texts []string) {
	l = l.withDefaults()
	for c := fine + 1; c < causes; c++ {
		if text := l.text(c); text != "" {
			texts = append(texts, text)
		}
	}
	return texts
}

// ReadAway reads an answer for nobody.
func ReadAway(u exchange.Stream) (status int, reason refusal.Reason, reusable bool) {
	a := away{u: u, method: "GET", buffer: make([]byte, upSize)}
	if err := a.over(context.Background(), exchange.Message("GET / HTTP/1.1\r\nhost: a\r\n\r\n")); err != nil {
		reason = refusal.Of(err).Reason
	}
	return a.head.status, reason, a.reusable
}
