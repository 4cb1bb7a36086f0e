package sandbox

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"sluice.dev/sluice/internal/capture/seqpacket"
)

func (c *Config) checkListen() error {
	if len(c.Listen) > MaxListen {
		return fmt.Errorf("sandbox: %d ports, at most %d are taken", len(c.Listen), MaxListen)
	}
	if len(c.Checks) > MaxChecks {
		return fmt.Errorf("sandbox: %d checks, at most %d are taken", len(c.Checks), MaxChecks)
	}
	for i, check := range c.Checks {
		switch {
		case !slices.Contains(c.Listen, check.Port):
			return fmt.Errorf("sandbox: port %d of a check is not one on which the command serves", check.Port)
		case slices.ContainsFunc(c.Checks[:i], func(other Check) bool { return other.Port == check.Port }):
			return fmt.Errorf("sandbox: port %d has more than one check", check.Port)
		}
		if err := checkPath(check.Path); err != nil {
			return fmt.Errorf("sandbox: check of port %d: %w", check.Port, err)
		}
	}
	return nil
}

// newPortWatch is init's watch of the ports, which reports to our parent. What is so
// before the command starts goes into outcome.
func newPortWatch(control *net.UnixConn, wanted *setup, outcome *ready) *portWatch {
	w := &portWatch{ask: askHTTP, tell: func(unready []Unready) error {
		return seqpacket.Send(control, note{Ports: &ports{Unready: unready}})
	}}
	if len(wanted.Listen) == 0 || outcome.Failure != nil {
		wanted.Listen, wanted.Checks = nil, nil
		return w
	}
	kernel, err := openKernelSockets()
	if err == nil {
		w.listens = kernel.inward
	} else {
		// Then every port counts as listening, and those with a check are asked.
		outcome.Notes = append(outcome.Notes, fmt.Sprintf("a port of --listen without --ready counts as ready from the start: the kernel does not say who listens (%v)", err))
		w.listens = func(port uint16) (netip.AddrPort, bool) {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port), true
		}
		wanted.Listen = wanted.Listen[:0]
		for _, check := range wanted.Checks {
			wanted.Listen = append(wanted.Listen, check.Port)
		}
	}
	for _, port := range wanted.Listen {
		outcome.Unready = append(outcome.Unready, unreadyAt(time.Now(), port, ""))
	}
	return w
}

// portStates is what init found out about the ports, as our side of the channel keeps it.
type portStates struct {
	listen  []uint16
	changed chan struct{} // holds one value while nobody looked at the last change

	mu      sync.Mutex
	unready []Unready
}

func (p *portStates) init(listen []uint16, unready []Unready) {
	p.listen, p.changed = listen, make(chan struct{}, 1)
	p.set(unready)
	<-p.changed // it is so from the start
}

// set keeps what init says; of ports that are not the command's it says nothing.
func (p *portStates) set(unready []Unready) {
	unready = slices.DeleteFunc(unready, func(u Unready) bool { return !slices.Contains(p.listen, u.Port) })
	p.mu.Lock()
	p.unready = unready
	p.mu.Unlock()
	wake(p.changed)
}

// Unready returns the ports of Config.Listen that take no connections now, sorted. None
// of them does before Start, unless the kernel does not say.
func (s *Sandbox) Unready() []Unready {
	s.ports.mu.Lock()
	defer s.ports.mu.Unlock()
	return slices.Clone(s.ports.unready)
}

// UnreadyChanged receives after a change of Unready. Whoever looks then sees the last of
// several changes.
func (s *Sandbox) UnreadyChanged() <-chan struct{} { return s.ports.changed }
