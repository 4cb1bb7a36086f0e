package top

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/record"
)

// playing is a server with flows, oldest first. It is used by one goroutine.
type playing struct {
	flows        []*record.Record
	asks, follow error // how questions end
}

func (p *playing) Sluice(_ context.Context, _ string, _ url.Values, into any) error {
	*into.(*inspect.Status) = inspect.Status{Format: inspect.Format}
	return p.asks
}

func (p *playing) Stream(_ context.Context, _ string, query url.Values, accepted func(), each func(line []byte) error) error {
	n, err := strconv.Atoi(query.Get("n"))
	if err != nil {
		return err
	}
	if query.Get("follow") != "" && p.follow != nil {
		return p.follow
	}
	accepted()
	for _, f := range p.flows[max(0, len(p.flows)-n):] {
		line, err := json.Marshal(f)
		if err == nil {
			err = each(line)
		}
		if err != nil {
			return err
		}
	}
	return nil // the server goes away
}

// What was denied since the screen showed something is on it, however late the flows are followed,
// and each is counted once; what was denied before is not.
func TestADenialThatNobodyFollowedIsShownOnceLater(t *testing.T) {
	p := &playing{flows: []*record.Record{flow(1, "a-v1/1", "before.example.com", record.Denied)}}
	w := NewWatch(p, "")
	if err := w.Ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	var want []record.ID
	for id := record.ID(2); id < 5; id++ {
		p.flows = append(p.flows, flow(id, "a-v1/1", "late.example.com", record.Denied))
		want = append([]record.ID{id}, want...)
		w.follow(t.Context())
		var got []record.ID
		shown := w.state.picture()
		for i := range shown.denials {
			got = append(got, shown.denials[i].ID)
		}
		if !slices.Equal(got, want) || shown.all.deniedEver != int64(len(want)) {
			t.Fatalf("%v are shown and %d counted, want %v", got, shown.all.deniedEver, want)
		}
	}
}

// A screen without flows is not one on which nothing happens.
func TestThatFlowsAreNotFollowedIsShownUntilTheyAre(t *testing.T) {
	p := &playing{follow: errors.New("too many follow")}
	w := NewWatch(p, "")
	check := func(want string) {
		t.Helper()
		shown := w.state.picture()
		text := strings.Join((&screen{width: 120, height: 20}).draw(&shown), "\n")
		if shown.failed != want || want != "" && !strings.Contains(text, want) {
			t.Errorf("%q is missing, want %q; shown is\n%s", shown.failed, want, text)
		}
	}
	w.follow(t.Context())
	_ = w.Ask(t.Context())
	check("the server's flows are not followed: too many follow")
	p.asks = errors.New("it is away")
	_ = w.Ask(t.Context())
	check("the server does not answer: it is away")
	p.follow = nil
	w.follow(t.Context()) // no flow has come yet
	check("the server does not answer: it is away")
	p.asks = nil
	_ = w.Ask(t.Context())
	check("")
}
