package http2_test

import (
	"net/http"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"sluice.dev/sluice/internal/proxy/http2"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/refusal"
)

// A stream that is refused because there are too many, of its connection or of its workload,
// leaves a record.
func TestAStreamThatIsOneTooManyLeavesARecord(t *testing.T) {
	for what, most := range map[string]struct{ streams, branches int }{"of the connection": {1, 0}, "of the workload": {0, 1}} {
		t.Run(what, func(t *testing.T) {
			hold, begun := make(chan struct{}), make(chan struct{}, 2)
			f := newFixture(t, upstream.HTTP11, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				begun <- struct{}{}
				<-hold
			}), http2.Limits{MaxStreams: most.streams})
			defer close(hold)
			f.mu.Lock()
			f.most = most.branches
			f.mu.Unlock()
			p := f.peer(t)
			p.get(1)
			<-begun
			p.get(3)
			p.reset(3, xhttp2.ErrCodeRefusedStream)
			select {
			case o := <-f.refused:
				if o.Failure.Reason != refusal.Overflow || o.Sent == 0 {
					t.Errorf("recorded: %+v", o)
				}
			default: // it is recorded before the client can know
				t.Error("there is no record")
			}
		})
	}
}
