package follow

import (
	"testing"
	"testing/synctest"
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/route"
)

// takes takes retries until there is none left.
func takes(b *budget) (n int) {
	for b.take(time.Now()) {
		n++
	}
	return n
}

func TestTheBudgetOfRetriesIsAFifthOfTheLoadAboveAFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b budget
		b.asked(time.Now())
		if got := takes(&b); got != budgetFloor {
			t.Errorf("for one request: %d", got)
		}
		time.Sleep(time.Second)
		if got := takes(&b); got != budgetFloor {
			t.Errorf("in the next second: %d", got)
		}
		for range 1000 {
			b.asked(time.Now())
		}
		if got := takes(&b); got != 1000/budgetShare-budgetFloor {
			t.Errorf("at 1000 requests a second: %d more", got)
		}
		time.Sleep(time.Second)
		if got := takes(&b); got != 1000/budgetShare {
			t.Errorf("right after 1000 requests: %d", got)
		}
		time.Sleep(2 * time.Second)
		if got := takes(&b); got != budgetFloor {
			t.Errorf("long after: %d", got)
		}
	})
}

// attempts counts those that were led elsewhere; none is a destination that is gone.
type attempts struct {
	turns int
	none  bool
}

func (a *attempts) Another() bool { return !a.none }
func (a *attempts) Turn()         { a.turns++ }

func TestARequestIsRepeatedWithinItsAttemptsAndTheBudget(t *testing.T) {
	now := time.Now()
	var to attempts
	var of budget
	var r retries
	r.begin(&route.Retries{Attempts: 100, Each: time.Second}, -1, &of, func() time.Time { return now }, &to)
	if r.AttemptTimeout() != time.Second {
		t.Errorf("an attempt has %v", r.AttemptTimeout())
	}
	for n := 1; n <= budgetFloor; n++ {
		if wait, again := r.Again(exchange.Attempt{Number: n, Status: 500}); !again || wait < 0 || wait >= longestWait(n) || to.turns != n {
			t.Errorf("attempt %d: %v after %v, the turn %d", n, again, wait, to.turns)
		}
	}
	if _, again := r.Again(exchange.Attempt{Number: budgetFloor + 1, Status: 500}); again {
		t.Error("past the budget")
	}
	now = now.Add(time.Second)
	if _, again := r.Again(exchange.Attempt{Number: 100, Status: 500}); !again {
		t.Error("not in the next second")
	}
	was := to.turns
	for _, a := range []exchange.Attempt{{Number: 4, Status: 500, Left: 1}, {Number: 4, Status: 200}, {Number: 101, Status: 500}} {
		if _, again := r.Again(a); again || to.turns != was {
			t.Errorf("%+v: %v, the turn %d", a, again, to.turns)
		}
	}
	to.none = true
	if _, again := r.Again(exchange.Attempt{Number: 4, Status: 500}); again || to.turns != was {
		t.Error("though there is nobody left")
	}
	to.none = false
	r.begin(&route.Retries{Attempts: 100}, 0, &of, func() time.Time { return now }, &to)
	if _, again := r.Again(exchange.Attempt{Number: 1, Status: 500}); again {
		t.Error("though the request says 0")
	}
}

func TestBudgetsAreEachDestinationsOwnAndBounded(t *testing.T) {
	var all budgets
	details, reviews := names.MustParse("details.default.svc.cluster.local"), names.MustParse("reviews.default.svc.cluster.local")
	first := all.get(details)
	if all.get(details) != first || all.get(reviews) == first {
		t.Error("a budget is not its destination's own")
	}
	for i := range maxBudgets + 1 {
		all.get(names.MustParse("s" + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676)) + ".example"))
	}
	if n := len(*all.of.Load()); n > maxBudgets {
		t.Errorf("%d budgets", n)
	}
}

func TestWaitsBetweenAttemptsDoubleToABound(t *testing.T) {
	for attempts, want := range map[int]time.Duration{1: 25 * time.Millisecond, 2: 75 * time.Millisecond, 3: 175 * time.Millisecond, 4: mostWait, 1 << 30: mostWait} {
		if got := longestWait(attempts); got != want {
			t.Errorf("after %d: %v", attempts, got)
		}
	}
}

func TestOnlyWhatAnotherAttemptMayMendIsRepeated(t *testing.T) {
	failed := func(r refusal.Reason) exchange.Attempt { return exchange.Attempt{Failure: refusal.New(r, "")} }
	for _, x := range []struct {
		a    exchange.Attempt
		want bool
	}{
		{exchange.Attempt{Status: 500}, true}, {exchange.Attempt{Status: 503}, true}, {exchange.Attempt{Status: 499}, false}, {exchange.Attempt{Status: 200}, false}, {exchange.Attempt{Status: 200, Unavailable: true}, true},
		{failed(refusal.UpstreamReset), true}, {failed(refusal.UpstreamTimeout), true}, {failed(refusal.UpstreamConnect), true},
		{failed(refusal.ClientGone), false}, {failed(refusal.Withdrawn), false}, {failed(refusal.NoHealthyUpstream), false}, {failed(refusal.Overflow), false}, {failed(refusal.Internal), false},
	} {
		if got := mayBeRepeated(x.a); got != x.want {
			t.Errorf("%+v: %v", x.a, got)
		}
	}
}

// fields are pairs of name and value.
type fields [][2]string

func (f fields) Values(lower string, yield func(string) bool) {
	for _, one := range f {
		if one[0] == lower && !yield(one[1]) {
			return
		}
	}
}

func TestARequestMayOverrideItsTimes(t *testing.T) {
	var o overrides
	for _, x := range []struct {
		timeout, retries string
		wantTimeout      time.Duration
		wantRetries      int
	}{
		{"250", "7", 250 * time.Millisecond, 7},
		{"0", "0", route.MaxTimeout, 0},
		{"4294967295", "65535", route.MaxTimeout, route.MaxAttempts},
		{"-1", "-1", 0, -1},
		{"1s", "many", 0, -1},
		{"99999999999999999999", "99999", 0, -1},
	} {
		o.read(&exchange.Request{Fields: fields{{timeoutField, x.timeout}, {retriesField, x.retries}}}, true)
		if o.timeout != x.wantTimeout || o.retries != x.wantRetries || !o.found {
			t.Errorf("%q and %q: %v, %d, %v", x.timeout, x.retries, o.timeout, o.retries, o.found)
		}
	}
	if o.read(&exchange.Request{Fields: fields{{"a", "b"}}}, true); o.timeout != 0 || o.retries != -1 || o.found {
		t.Errorf("without them: %v, %d, %v", o.timeout, o.retries, o.found)
	}
}
