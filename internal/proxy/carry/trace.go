package carry

import (
	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/telemetry/trace"
	"sluice.dev/sluice/internal/wire"
)

// tracing is where the requests of one connection stand in their traces, one after the
// other, without an allocation for each.
type tracing struct {
	reader trace.Reader
	writer trace.Writer
	at     trace.Context // of the request under way
	traced bool          // the mesh traces
	had    trace.Had

	set     []exchange.Field // what the request under way gets
	removed []string         // and does not keep
}

// begin finds the trace of a request. From outside the mesh none is taken: whoever names
// one could join it, and have it sampled.
func (t *tracing) begin(x *exchange.Request, of *wire.Telemetry, outside bool) {
	switch t.traced, t.had = of.Tracing, (trace.Had{}); {
	case !of.Tracing:
		t.at = trace.Context{}
	case outside:
		t.at = trace.Begin(of.Sampling)
	default:
		t.at, t.had = t.reader.Read(x, of.Sampling)
	}
}

// AppendReplaced appends the names of the fields that a request does not keep: none where
// the mesh does not trace. What of a trace is not written anew would speak of another one:
// a service that copies x-b3-flags of a stranger's would have its own sampled.
func (r *Requests) AppendReplaced(to []string) []string {
	t := &r.tracing
	if !t.traced {
		return to
	}
	if !t.had.W3C {
		to = append(to, trace.State)
	}
	return append(to, trace.Replaced...)
}

// AppendTrace appends the fields by which whoever gets the request goes on with its trace:
// none where the mesh does not trace. They are views, until the next request.
func (r *Requests) AppendTrace(to []exchange.Field) []exchange.Field {
	t := &r.tracing
	if !t.traced {
		return to
	}
	t.writer.Write(&t.at, t.had.B3, func(name, value string) { to = append(to, exchange.Field{Name: name, Value: value}) })
	return to
}

// Trace has a request go on with its trace, in place of whatever it says of one; or, where the
// mesh ends and no rule says that more may leave, without all that is the mesh's own affair.
// It is for a direction without Set.
func (r *Requests) Trace(direction *exchange.Direction, on bool) {
	if !on {
		direction.Boundary = true
		return
	}
	t := &r.tracing
	t.set = r.AppendTrace(t.set[:0])
	t.removed = r.AppendReplaced(append(t.removed[:0], direction.Remove...))
	direction.Set, direction.Remove = t.set, t.removed
}
