package resolve

import (
	"errors"
	"net/netip"
)

// Beginner is Sockets that can begin to connect without waiting. The descriptor does not
// block; what comes of it is the socket's to say.
type Beginner interface {
	BeginTCP(to netip.AddrPort) (fd int, err error)
}

var errWaits = errors.New("these sockets connect only for who waits")

// Begins reports whether Begin can do anything.
func (d *Dialer) Begins() bool { _, ok := d.sockets.(Beginner); return ok }

// Remembered returns the addresses of a target that may be dialled, in the order in which
// a Race tries them; none where somebody would have to be asked.
func (d *Dialer) Remembered(t Target) []netip.Addr {
	known := []netip.Addr{t.Addr}
	if !t.Name.IsZero() {
		known = d.resolver.remembered(t.Name)
	}
	allowed, _, _ := t.Consent.Sift(known)
	if len(allowed) < 2 {
		return allowed
	}
	var q queue
	q.add(allowed)
	for i := range allowed {
		if q.len() > 0 {
			allowed[i] = q.next()
		} else {
			allowed = allowed[:i] // one was there twice
			break
		}
	}
	return allowed
}

// Begin judges an address and begins to connect to it, without waiting.
func (d *Dialer) Begin(t Target, to netip.AddrPort) (fd int, err error) {
	if reason := t.Consent.Judge(to.Addr()); reason != "" {
		return -1, failed(reason, t.Name, []netip.Addr{to.Addr()}, nil)
	}
	sockets, ok := d.sockets.(Beginner)
	if !ok {
		return -1, errWaits
	}
	return sockets.BeginTCP(to)
}
