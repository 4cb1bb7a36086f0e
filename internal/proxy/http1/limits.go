package http1

import "time"

// Limits bounds what one client, and one exchange, may use. Zero values mean
// the defaults.
type Limits struct {
	MaxConnections int   // of clients at once; default 16,384; beyond, each is answered 503 and closed
	MaxHeaderBytes int   // of one head, request or answer; default 32 KiB, at most 60 KiB
	MaxBodyBytes   int64 // of one request's body; 0: any size
	MaxStreamBytes int64 // that all streams of HTTP/2 of one workload take together so that long bodies pass in long pieces; default 4 MiB; beyond, they pass in short ones

	HeaderTimeout   time.Duration // from a request's first byte (or the connection's start) to the end of its head; default 10 s
	IdleTimeout     time.Duration // of a connection between two requests; default 180 s
	AnswerTimeout   time.Duration // from a request's end to its answer's head, unless the Direction says otherwise; default 300 s
	TransferTimeout time.Duration // of a body, either way, in which no byte moves; default 300 s
	GatherTimeout   time.Duration // for the rest of a call of gRPC that may be sent again; default 20 ms
	UpgradeTimeout  time.Duration // of an upgraded connection on which no byte moves; default 1 h
}

// Bounds that are not the user's to set.
const (
	maxBound     = 4                     // upstream connections held for one client; past it the oldest ends
	maxInterim   = 16                    // 1xx answers before the final one
	lingerTime   = 5 * time.Second       // for a client to read its last answer
	lingerBytes  = 16 << 20              // that it may still send meanwhile
	stallTime    = 5 * time.Second       // to write an answer after a time-out
	goneAfter    = 1 * time.Second       // into a wait, a client is looked at
	sweepAtMost  = 1 * time.Second       // between two looks at the deadlines
	sweepAtLeast = 20 * time.Millisecond //
)

func (l Limits) withDefaults() Limits {
	if l.MaxConnections <= 0 {
		l.MaxConnections = 16 << 10
	}
	if l.MaxHeaderBytes <= 0 {
		l.MaxHeaderBytes = 32 << 10
	}
	l.MaxHeaderBytes = min(l.MaxHeaderBytes, maxHeadBytes)
	if l.MaxStreamBytes <= 0 {
		l.MaxStreamBytes = 4 << 20
	}
	for _, t := range []struct {
		value     *time.Duration
		otherwise time.Duration
	}{
		{&l.HeaderTimeout, 10 * time.Second},
		{&l.IdleTimeout, 180 * time.Second},
		{&l.AnswerTimeout, 300 * time.Second},
		{&l.TransferTimeout, 300 * time.Second},
		{&l.GatherTimeout, 20 * time.Millisecond},
		{&l.UpgradeTimeout, time.Hour},
	} {
		if *t.value <= 0 {
			*t.value = t.otherwise
		}
	}
	return l
}
