package carry

import (
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// Copied is the record of a copy of a request that goes elsewhere beside it. It is open
// from Copy to Close.
type Copied struct {
	entry record.Entry
	kit   *Kit
}

// Copy opens the record of a copy of the request under way, which a route rule sends to
// host.
func (r *Requests) Copy(s *snapshot.Snapshot, rule, host string) *Copied {
	of, c, now := r.entry.Copy(), &Copied{kit: r.kit}, r.kit.Now()
	c.entry.Edit(func(f *record.Record) {
		*f = record.Record{
			ID: record.NewID(), Start: now, Workload: of.Workload, Source: of.Source, Direction: of.Direction, Dialled: of.Dialled, Port: of.Port,
			Host: record.Text(host), Method: of.Method, Path: of.Path, Sniffed: policy.HTTP, Snapshot: s.Version,
			Detail: record.Text("copy of " + of.ID.String() + ", by the mirror of " + rule),
		}
	})
	r.kit.Recorder.Open(&c.entry)
	return c
}

// Decide notes the verdict on the copy, and the route rule that made it.
func (c *Copied) Decide(v *policy.Verdict, rule string) {
	c.entry.Edit(func(f *record.Record) {
		detail := f.Detail
		f.Decide(v)
		if f.Detail = detail; v.Passes() {
			f.Rule = rule
		}
	})
}

// Via notes who gets it.
func (c *Copied) Via(upstream string, to record.End) {
	c.entry.Edit(func(f *record.Record) { f.Upstream, f.Destination = upstream, to })
}

// Close notes the status of its answer, or why there was none, and closes the record.
func (c *Copied) Close(status int, err error) {
	now := c.kit.Now()
	c.entry.Edit(func(f *record.Record) {
		f.Status, f.Duration = status, now.Sub(f.Start)
		if err == nil {
			return
		}
		detail := f.Detail
		f.Fail(refusal.Of(err))
		f.Detail = record.Text(f.Detail + " (" + detail + ")")
	})
	c.kit.Recorder.Close(&c.entry)
}
