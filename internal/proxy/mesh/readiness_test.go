package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

// notReady is a list of details whose named endpoints are not ready; "instance: why" is
// one that its owner's check holds back.
func notReady(of *wire.Endpoints, not ...string) *wire.Endpoints {
	for i := range of.Endpoints {
		for _, text := range not {
			instance, why, _ := strings.Cut(text, ": ")
			if of.Endpoints[i].Instance == instance {
				of.Endpoints[i].Unready = []wire.Unready{{Port: 9080, Since: time.Now().Add(-12500 * time.Millisecond), Why: why}}
			}
		}
	}
	return of
}

// clock is a Kit for what tells how long an endpoint is not ready.
var clock = &carry.Kit{Now: time.Now}

func TestOneThatIsNotReadyGetsNoTrafficAndTheOthersShareItsTurns(t *testing.T) {
	w := New(Config{})
	s := balanced(t, nil, notReady(listed(details, "v1", "v1", "v1", "v1"), "details-v1/2"))
	count := make(map[string]int)
	for range 120 {
		count[next(t, w, s, details)]++
	}
	for instance, want := range map[string]int{"details-v1/1": 40, "details-v1/2": 0, "details-v1/3": 40, "details-v1/4": 40} {
		if count[instance] != want {
			t.Errorf("%s has %d calls of 120, want %d", instance, count[instance], want)
		}
	}
}

// Of its own workloads a proxy knows more than a snapshot: the newer, and without a server.
func TestWhatAProxyKnowsOfItsOwnCountsBeforeTheSnapshot(t *testing.T) {
	unready := []wire.Unready{{Port: 9080}}
	w := New(Config{Unready: func(instance string) ([]wire.Unready, bool) {
		return map[string][]wire.Unready{"details-v1/1": unready}[instance], instance != "details-v1/3"
	}})
	s := balanced(t, nil, notReady(listed(details, "v1", "v1", "v1"), "details-v1/2", "details-v1/3"))
	for range 6 {
		if got := next(t, w, s, details); got != "details-v1/2" {
			t.Errorf("a call goes to %s", got)
		}
	}
}

func TestWhereNobodyWasSeenToListenARealCallIsTriedAndOneThatACheckHoldsBackIsNot(t *testing.T) {
	w := New(Config{Kit: clock})
	held, quiet := "details-v1/1: GET /health was answered with 503", "details-v1/2"
	s := balanced(t, nil, notReady(listed(details, "v1", "v1"), held, quiet))
	for range 4 {
		if got := next(t, w, s, details); got != "details-v1/2" {
			t.Errorf("a call goes to %s", got)
		}
	}
	s = balanced(t, nil, notReady(listed(details, "v1"), held))
	d := w.decide(s, Target{Service: details, Port: 9080}, route.Request{})
	if d.Endpoint != nil || d.Why == nil || d.Why.Reason != refusal.NoHealthyUpstream ||
		!strings.Contains(d.Why.Error(), "details-v1/1 is not ready on 9080 for 12 s: GET /health was answered with 503") {
		t.Errorf("%+v", d)
	}
	var all []string
	for i := range 9 {
		all = append(all, fmt.Sprintf("details-v1/%d: no", i+1))
	}
	d = w.decide(balanced(t, nil, notReady(listed(details, slices.Repeat([]string{"v1"}, 9)...), all...)), Target{Service: details, Port: 9080}, route.Request{})
	if text := d.Why.Error(); strings.Count(text, "not ready") != 3 || !strings.HasSuffix(text, "; and 6 more") {
		t.Errorf("of nine: %s", text)
	}
}

// refusing is a way to endpoints of which only some take a connection; it notes whom it
// dials.
func refusing(t *testing.T, failure error, takes ...string) (w *Way, dialled *[]string) {
	t.Helper()
	dialled = new([]string)
	w = New(Config{Kit: clock, Inward: func(instance string) (Inward, bool) {
		return func(context.Context, Caller, uint16) (*net.TCPConn, error) {
			*dialled = append(*dialled, strings.TrimPrefix(instance, "details-v1/"))
			if !slices.Contains(takes, instance) {
				return nil, fmt.Errorf("connect: %w", failure)
			}
			return new(net.TCPConn), nil
		}, true
	}})
	return w, dialled
}

func TestARefusedConnectIsTriedOnEachOtherEndpointOnceWithinABound(t *testing.T) {
	for what, x := range map[string]struct {
		failure error
		not     []string
		takes   string
		want    string // of those that are dialled
		reached bool
	}{
		"refused by the first":             {syscall.ECONNREFUSED, nil, "details-v1/2", "1 2", true},
		"refused by all but the last":      {syscall.ECONNREFUSED, nil, "details-v1/4", "1 2 3 4", true},
		"refused by all":                   {syscall.ECONNREFUSED, nil, "", "1 2 3 4", false},
		"whose sandbox is gone":            {capture.ErrFactoryGone, nil, "details-v1/2", "1 2", true},
		"whose capture is closed":          {net.ErrClosed, nil, "details-v1/2", "1 2", true},
		"one that does not answer":         {context.DeadlineExceeded, nil, "details-v1/2", "1", false},
		"no descriptor is left":            {syscall.EMFILE, nil, "details-v1/2", "1", false},
		"those that are ready come first":  {syscall.ECONNREFUSED, []string{"details-v1/2"}, "details-v1/2", "1 3 4 2", true},
		"one that is held back is not one": {syscall.ECONNREFUSED, []string{"details-v1/2: no"}, "details-v1/2", "1 3 4", false},
	} {
		w, dialled := refusing(t, x.failure, x.takes)
		d := w.decide(balanced(t, nil, notReady(listed(details, "v1", "v1", "v1", "v1"), x.not...)), Target{Service: details, Port: 9080}, route.Request{})
		_, err := w.connect(t.Context(), &d, 9080)
		if got := strings.Join(*dialled, " "); got != x.want || (err == nil) != x.reached || err == nil && d.Endpoint.Instance != x.takes {
			t.Errorf("%s: dialled %s, %v", what, got, err)
		}
		if err != nil && (refusal.Of(err).Reason != refusal.UpstreamConnect || !errors.Is(err, x.failure)) {
			t.Errorf("%s: %v", what, err)
		}
	}
	w, dialled := refusing(t, syscall.ECONNREFUSED)
	d := w.decide(balanced(t, nil, listed(details, slices.Repeat([]string{"v1"}, 20)...)), Target{Service: details, Port: 9080}, route.Request{})
	if _, err := w.connect(t.Context(), &d, 9080); err == nil || len(*dialled) != maxTries {
		t.Errorf("of twenty %d are dialled, %v", len(*dialled), err)
	}
}

func TestACallThatNobodyTakesIsExplainedByWhatIsKnown(t *testing.T) {
	w, _ := refusing(t, syscall.ECONNREFUSED)
	d := w.decide(balanced(t, nil, notReady(listed(details, "v1", "v1"), "details-v1/1", "details-v1/2")), Target{Service: details, Port: 9080}, route.Request{})
	_, err := w.connect(t.Context(), &d, 9080)
	const want = "no healthy upstream: details-v1/1 is not listening on 9080 for 12 s; details-v1/2 is not listening on 9080 for 12 s"
	if refusal.Of(err).Reason != refusal.NoHealthyUpstream || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

// Looking at the endpoints takes a moment, in which what was ready may cease to be.
func TestACallGoesToOneThatIsReadyThoughAnotherCeasesToBeMeanwhile(t *testing.T) {
	s := balanced(t, nil, listed(details, "v1", "v1", "v1"))
	var looks, from int
	unready := []wire.Unready{{Port: 9080, Why: "no"}}
	w := New(Config{Kit: clock, Unready: func(instance string) ([]wire.Unready, bool) {
		looks++
		if instance == "details-v1/1" || instance == "details-v1/2" && looks > from {
			return unready, true
		}
		return nil, true
	}})
	for range 2 { // once with each of the two that are ready at first
		for range 3 {
			looks, from = 0, 4 // its turn is looked at, and then all three
			d := w.decide(s, Target{Service: details, Port: 9080}, route.Request{})
			if d.Endpoint == nil || d.Endpoint.Instance == "details-v1/1" {
				t.Errorf("a call goes to %v: %v", d.Endpoint, d.Why)
			}
		}
	}
}

func TestACallWhoseEndpointsBecomeReadyWhileItFailsSaysSo(t *testing.T) {
	looks := 0
	w := New(Config{Kit: clock, Unready: func(string) ([]wire.Unready, bool) {
		if looks++; looks <= 3 { // its turn, all, and the next
			return []wire.Unready{{Port: 9080, Why: "no"}}, true
		}
		return nil, true
	}})
	d := w.decide(balanced(t, nil, listed(details, "v1")), Target{Service: details, Port: 9080}, route.Request{})
	if d.Why == nil || d.Why.Error() != "no healthy upstream: the endpoints have just changed" {
		t.Errorf("%+v", d)
	}
}

func BenchmarkDecideBesideOneThatIsNotReady(b *testing.B) {
	for _, not := range []int{0, 1, 5} {
		b.Run(fmt.Sprint(not, " of 10"), func(b *testing.B) {
			of := listed(details, slices.Repeat([]string{"v1"}, 10)...)
			var names []string
			for i := range not {
				names = append(names, fmt.Sprint("details-v1/", i+1))
			}
			all := make(map[string][]wire.Unready)
			for _, e := range notReady(of, names...).Endpoints {
				all[e.Instance] = e.Unready
			}
			w, s := New(Config{Unready: func(instance string) ([]wire.Unready, bool) {
				unready, ok := all[instance]
				return unready, ok
			}}), balanced(b, nil, of)
			b.ReportAllocs()
			for b.Loop() {
				w.decide(s, Target{Service: details, Port: 9080}, route.Request{})
			}
		})
	}
}
