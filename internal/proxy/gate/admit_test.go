package gate

import (
	"context"
	"testing"
	"time"

	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/refusal"
)

// admission is what Admit came to.
type admission struct {
	conn *Conn
	why  *refusal.Error
}

// comes is a connection that comes to a gate.
func comes(t *testing.T, g *Gate) <-chan admission {
	t.Helper()
	down, _ := pair(t)
	done := make(chan admission, 1)
	go func() {
		c, _, why := g.Admit(t.Context(), down)
		done <- admission{c, why}
	}()
	return done
}

func TestWhoComesToAFullGateWaitsUntilOneLeaves(t *testing.T) {
	g, stock := gateOf(t, holder(t), 2)
	g.config.Share.SetWait(time.Hour)
	crowded := make(chan struct{}, 9)
	g.config.Crowded = func() { crowded <- struct{}{} }
	first, _ := admitted(t, g)
	admitted(t, g)
	third := comes(t, g)
	<-crowded
	select {
	case a := <-third:
		t.Fatalf("it does not wait: %+v", a)
	default:
	}
	first.Leave()
	if a := <-third; a.why != nil || stock.Used() != 2 {
		t.Errorf("%v, %d are counted", a.why, stock.Used())
	}
}

// Who waited in vain is turned away, and those behind it, who waited as long, at once;
// until one is let in again.
func TestWhoWaitedInVainIsResetAndTakesNoPlace(t *testing.T) {
	g, stock := gateOf(t, holder(t), 1)
	g.config.Share.SetWait(100 * time.Millisecond)
	first, _ := admitted(t, g)
	down, up := pair(t)
	if _, _, why := g.Admit(t.Context(), down); why == nil || why.Reason != refusal.Overflow {
		t.Fatalf("it is turned away with %v", why)
	}
	if _, err := up.Read(make([]byte, 1)); err == nil {
		t.Error("it is not ended")
	}
	g.config.Share.SetWait(time.Hour) // nobody waits for that
	for range 3 {
		if a := <-comes(t, g); a.why == nil || a.why.Reason != refusal.Overflow {
			t.Errorf("one behind it: %v", a.why)
		}
	}
	if stock.Used() != 1 {
		t.Errorf("%d are counted", stock.Used())
	}
	first.Leave()
	again, _ := admitted(t, g)
	waits := comes(t, g)
	select {
	case a := <-waits:
		t.Fatalf("after one was let in the next does not wait: %v", a.why)
	case <-time.After(3 * relieveEvery):
	}
	again.Leave()
	if a := <-waits; a.why != nil {
		t.Error(a.why)
	}
}

// What becomes idle only while somebody waits is closed too.
func TestWhoWaitsHasWhatIsIdleClosed(t *testing.T) {
	stock := share.NewStock(share.Config{Units: 1, Alone: true})
	asked := 0
	var idle *Conn
	m := stock.Join(0, func() bool {
		if asked++; asked < 3 {
			return false
		}
		idle.Leave()
		return true
	})
	g := New(Config{Holder: holder(t), Share: m})
	idle, _ = admitted(t, g)
	if a := <-comes(t, g); a.why != nil {
		t.Error(a.why)
	}
}

func TestWhereWhatIsIdleMakesWayAtOnceNobodyWaits(t *testing.T) {
	stock := share.NewStock(share.Config{Units: 1, Alone: true})
	var idle *Conn
	m := stock.Join(0, func() bool { idle.Leave(); return true })
	g := New(Config{Holder: holder(t), Share: m, Crowded: func() { t.Error("it is said that one has to wait") }})
	idle, _ = admitted(t, g)
	if a := <-comes(t, g); a.why != nil {
		t.Error(a.why)
	}
}

func TestWhoWaitsIsLetGoWhenTheWorkloadEnds(t *testing.T) {
	g, _ := gateOf(t, holder(t), 1)
	g.config.Share.SetWait(time.Hour)
	admitted(t, g)
	ctx, cancel := context.WithCancel(t.Context())
	g.config.Crowded = cancel
	down, _ := pair(t)
	if _, _, why := g.Admit(ctx, down); why == nil || why.Reason != refusal.Stopping {
		t.Errorf("%v", why)
	}
}
