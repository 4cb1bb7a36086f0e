package http2

import "time"

// budget bounds how much a peer may ask for that carries nothing, as a rate with a burst:
// frames without use, and streams that are begun and reset. What it has used up ends the
// connection (ENHANCE_YOUR_CALM), for no peer comes near it by what it needs.
type budget struct {
	left   float64
	most   float64
	each   float64 // a second
	lastAt time.Duration
}

// take takes one unit, and reports whether there was one.
func (b *budget) take(now time.Duration) bool {
	b.left = min(b.most, b.left+b.each*(now-b.lastAt).Seconds())
	b.lastAt = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// give gives back for what was of use.
func (b *budget) give(n float64) { b.left = min(b.most, b.left+n) }
