package mesh

import (
	"testing"
	"time"

	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/proxy/gate"
	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/wire"
)

// calling is the records of a connection to details.
func calling(t *testing.T, w *Way) *noted {
	holder := snapshot.NewHolder(snapshot.HolderConfig{})
	g := gate.New(gate.Config{Holder: holder, Share: share.NewStock(share.Config{Units: 1, Alone: true}).Join(0, nil)})
	conn, _, why := g.Admit(t.Context(), nil)
	if why != nil {
		t.Fatal(why)
	}
	r := new(Requests)
	r.Init(w, conn, carry.About{})
	return &r.noted
}

func TestEachAttemptGoesToTheNextEndpoint(t *testing.T) {
	stock := share.NewStock(share.Config{Units: 1, Alone: true}).Join(0, nil)
	w := New(Config{Kit: &carry.Kit{Now: time.Now, Upstream: upstream.Allowance{Open: stock, Handshakes: stock}}})
	one, two := endpoint("details-v1/1", "v1"), endpoint("details-v1/2", "v1")
	c := &call{noted: calling(t, w), candidates: candidates{way: w, port: 9080, fit: []*wire.Endpoint{&one, &two}, current: &one}}
	for n, want := range []string{"details-v1/2", "details-v1/1", "details-v1/2"} {
		before := c.current
		if !c.Another() || c.current != before {
			t.Fatalf("attempt %d: it is sent to %s before it is its turn, or nobody is left", n, c.current.Instance)
		}
		if c.Turn(); c.current.Instance != want {
			t.Errorf("attempt %d goes to %s", n, c.current.Instance)
		}
	}
	c.fit = nil
	if c.Another() {
		t.Error("a call without endpoints has another one")
	}
}
