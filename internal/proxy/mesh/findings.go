package mesh

import (
	"sync"
	"time"
)

// Bounds of what is remembered of the ports of services.
const (
	// FindingTime is how long it is remembered who spoke first on a port, from the last
	// time that it was seen.
	FindingTime = 10 * time.Minute
	// MaxFindings bounds the ports of which it is remembered; past it what was seen
	// longest ago is forgotten.
	MaxFindings = 1024
)

// side is who speaks first on a port.
type side uint8

const (
	unknown side = iota
	client
	server
)

// speaksFirst reports whether servers on a port are known to speak first: a client that
// follows the protocol waits for them.
func speaksFirst(port uint16) bool {
	switch port {
	case 13, 17, 19, // daytime, qotd, chargen: RFC 867, RFC 865, RFC 864
		21,      // FTP: RFC 959 section 5.4, reply 220
		22,      // SSH: RFC 4253 section 4.2, both sides at once, and most clients wait
		23,      // telnet: RFC 854, servers begin to negotiate
		25, 587, // SMTP, submission: RFC 5321 section 3.1, RFC 6409
		37,   // time: RFC 868
		110,  // POP3: RFC 1939 section 3
		119,  // NNTP: RFC 3977 section 5.1
		143,  // IMAP: RFC 9051 section 7.1
		3306, // MySQL, MariaDB: the initial handshake packet of their protocols
		4222, // NATS: INFO of its client protocol
		5900: // VNC: RFC 6143 section 7.1.1
		return true
	}
	return false
}

// findings is who was seen to speak first on the ports of services of which nobody said
// what is spoken there. The zero findings is ready.
type findings struct {
	mu    sync.Mutex
	ports map[Target]finding
}

type finding struct {
	first side
	until time.Time
}

// expect returns who speaks first on a port: as it was seen, or else as the port's number
// has it.
func (f *findings) expect(to Target, now time.Time) side {
	f.mu.Lock()
	found, ok := f.ports[to]
	f.mu.Unlock()
	switch {
	case ok && now.Before(found.until):
		return found.first
	case speaksFirst(to.Port):
		return server
	}
	return unknown
}

// note remembers who spoke first on a port.
func (f *findings) note(to Target, first side, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.ports[to]; !ok && len(f.ports) >= MaxFindings {
		f.forget(now)
	}
	if f.ports == nil {
		f.ports = make(map[Target]finding)
	}
	f.ports[to] = finding{first, now.Add(FindingTime)}
}

// forget drops what is over or, where nothing is, what was seen longest ago.
func (f *findings) forget(now time.Time) {
	var oldest Target
	for to, found := range f.ports {
		if !now.Before(found.until) {
			delete(f.ports, to)
		} else if of, ok := f.ports[oldest]; !ok || found.until.Before(of.until) {
			oldest = to
		}
	}
	if len(f.ports) >= MaxFindings {
		delete(f.ports, oldest)
	}
}
