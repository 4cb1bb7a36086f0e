package http2

import "time"

// Limits bounds what one connection may use. Zero values mean the defaults.
type Limits struct {
	MaxStreams     int // at once, of one connection; default 100
	MaxHeaderBytes int // of one head, as HTTP/1.1 writes it; default 32 KiB, at most 60 KiB

	HeaderTimeout time.Duration // for the preface, for SETTINGS, and from a HEADERS frame to its last CONTINUATION; default 10 s
	IdleTimeout   time.Duration // of a connection without a stream; default 180 s
	WriteTimeout  time.Duration // in which a peer takes no byte of what is to be written; default 60 s
}

// Bounds that are not the user's to set.
const (
	maxFields        = 128             // of one head
	maxBlockBytes    = 64 << 10        // of one field block, compressed
	maxContinuations = 32              // frames of one field block
	maxTrailerBytes  = 8 << 10         // of one trailer section
	streamWindow     = 64<<10 - 1      // bytes of body that one stream may hold: the protocol's default
	connectionWindow = 1 << 20         // and all streams of one connection together
	outSoft          = 64 << 10        // bytes to be written, past which bodies and heads wait
	outHard          = 192 << 10       // and past which the connection ends: its peer asks for answers and takes none
	tableBytes       = 4 << 10         // of the table of each direction's field compression
	mostIndexed      = 512             // bytes of a value that goes into ours
	mostKept         = 4 << 10         // bytes of a buffer that a stream keeps for the next one
	maxIdleLines     = 32              // of one connection, that wait for the next stream
	rememberedResets = 128             // streams that we reset, and of which frames may be under way still
	lingerTime       = 2 * time.Second // for a peer to read why its connection ended
	lingerBytes      = 4 << 20         // that it may still send meanwhile
	drainGrace       = time.Second
	endTimeout       = 10 * time.Second // for a server to end a stream whose answer is whole

	uselessBurst = 10_000 // frames that carry nothing
	uselessRate  = 1_000  // of them a second
	resetBurst   = 400    // streams that were begun and ended by a reset, the client's or ours
	resetRate    = 50
)

func (l Limits) withDefaults() Limits {
	if l.MaxStreams <= 0 {
		l.MaxStreams = 100
	}
	if l.MaxHeaderBytes <= 0 {
		l.MaxHeaderBytes = 32 << 10
	}
	l.MaxHeaderBytes = min(l.MaxHeaderBytes, 60<<10)
	for _, t := range []struct {
		value     *time.Duration
		otherwise time.Duration
	}{{&l.HeaderTimeout, 10 * time.Second}, {&l.IdleTimeout, 180 * time.Second}, {&l.WriteTimeout, 60 * time.Second}} {
		if *t.value <= 0 {
			*t.value = t.otherwise
		}
	}
	return l
}
