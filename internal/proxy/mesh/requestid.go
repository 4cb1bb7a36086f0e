package mesh

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"unsafe"

	"sluice.dev/sluice/internal/proxy/exchange"
)

// requestIDField names one request on its way through the services that it leads to:
// each passes on what it got, as Istio asks of applications.
const requestIDField = "x-request-id"

// requestID makes the ids of the requests of one connection, in one buffer: a request
// has ended before the next one of its connection begins. It must not be copied once it
// is used.
type requestID struct {
	there bool                    // the request of the moment has one
	look  func(value string) bool // sets there; made once, for a closure is an allocation
	text  [36]byte
	set   [1]exchange.Field // Value is a view of text
}

// missing reports whether a request has no id.
func (r *requestID) missing(x *exchange.Request) bool {
	if r.look == nil {
		r.look = func(value string) bool {
			r.there = r.there || value != ""
			return !r.there
		}
	}
	r.there = false
	x.Values(requestIDField, r.look)
	return !r.there
}

// fresh returns the field with a new random id, a UUID of version 4 (RFC 9562 section
// 5.4), until the next call. Whoever knows an id may do nothing with it, so that the
// runtime's generator is good enough.
func (r *requestID) fresh() []exchange.Field {
	var id [16]byte
	binary.LittleEndian.PutUint64(id[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(id[8:], rand.Uint64())
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	from := id[:]
	for i, n := range [...]int{4, 2, 2, 2, 6} {
		at := 2*(16-len(from)) + i
		hex.Encode(r.text[at:], from[:n])
		if from = from[n:]; len(from) > 0 {
			r.text[at+2*n] = '-'
		}
	}
	r.set[0] = exchange.Field{Name: requestIDField, Value: unsafe.String(&r.text[0], len(r.text))}
	return r.set[:]
}
