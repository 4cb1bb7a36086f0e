package gate

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/refusal"
)

// holder holds a snapshot that denies everything, until another is swapped in.
func holder(t *testing.T) *snapshot.Holder {
	t.Helper()
	return snapshot.NewHolder(snapshot.HolderConfig{})
}

// open returns a snapshot in force: one that does not deny everything.
func open(t *testing.T) *snapshot.Snapshot {
	t.Helper()
	set, err := policy.NewSet(nil, policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := *snapshot.NewHolder(snapshot.HolderConfig{}).Load()
	s.Policy = set
	return &s
}

// pair is the two ends of a connection.
func pair(t *testing.T) (ours, theirs *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	d, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); d.Close() })
	return d.(*net.TCPConn), c.(*net.TCPConn)
}

// admitted is a connection that a gate let in.
func admitted(t *testing.T, g *Gate) (*Conn, context.Context) {
	t.Helper()
	down, _ := pair(t)
	c, ctx, why := g.Admit(t.Context(), down)
	if why != nil {
		t.Fatal(why)
	}
	return c, ctx
}

// always is a grant to which every snapshot has the same objection.
type always Objection

func (a always) Recheck(*snapshot.Snapshot) Objection { return Objection(a) }

// gateOf is a gate that may have so many connections.
func gateOf(t *testing.T, h *snapshot.Holder, connections int) (*Gate, *share.Stock) {
	t.Helper()
	stock := share.NewStock(share.Config{Units: connections, Alone: true})
	m := stock.Join(0, nil)
	m.SetWait(50 * time.Millisecond)
	return New(Config{Holder: h, Share: m}), stock
}

func TestAGateThatIsClosedLetsNobodyInAndSaysThatItStops(t *testing.T) {
	g, stock := gateOf(t, holder(t), 9)
	c, ctx := admitted(t, g)
	g.Close()
	if ctx.Err() == nil || c.Ended() == nil || c.Ended().Reason != refusal.Stopping || c.Withdrawn() != nil {
		t.Errorf("%v, ended by %v, withdrawn by %v", ctx.Err(), c.Ended(), c.Withdrawn())
	}
	down, _ := pair(t)
	if _, _, why := g.Admit(t.Context(), down); why == nil || why.Reason != refusal.Stopping {
		t.Errorf("one that comes then: %v", why)
	}
	c.Leave()
	if stock.Used() != 0 {
		t.Errorf("%d are counted", stock.Used())
	}
}

func TestASnapshotThatObjectsEndsTheConnectionAndSaysWhy(t *testing.T) {
	g, _ := gateOf(t, holder(t), 9)
	kept, keptContext := admitted(t, g)
	kept.Hold(always{}, g.Snapshot())
	ended, endedContext := admitted(t, g)
	ended.Hold(always{Reason: refusal.NoRule}, g.Snapshot())
	admitted(t, g) // has no verdict yet
	g.Recheck(open(t))
	if keptContext.Err() != nil || kept.Ended() != nil {
		t.Errorf("what is allowed still has ended: %v", kept.Ended())
	}
	if endedContext.Err() == nil || ended.Withdrawn() == nil || ended.Withdrawn().Reason != refusal.NoRule {
		t.Errorf("%v, withdrawn by %v", endedContext.Err(), ended.Withdrawn())
	}
	set, err := policy.NewSet(nil, policy.Options{Deny: refusal.StaleSnapshot})
	if err != nil {
		t.Fatal(err)
	}
	stale := open(t)
	stale.Policy = set
	g.Recheck(stale)
	if kept.Withdrawn() == nil || kept.Withdrawn().Reason != refusal.StaleSnapshot {
		t.Errorf("under rules that deny everything: %v", kept.Withdrawn())
	}
}

// A snapshot may come between a decision and its grant: who holds a grant of the one
// before is asked at once, also inside a callback of the socket, whose Close would wait
// for itself.
func TestAGrantOfTheSnapshotBeforeIsAskedAboutAtOnce(t *testing.T) {
	h := holder(t)
	g, _ := gateOf(t, h, 9)
	c, ctx := admitted(t, g)
	before := g.Snapshot()
	h.Swap(open(t))
	raw, err := c.Down().SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(uintptr) { // which holds the descriptor as the engine's callback does
		c.Hold(always{Reason: refusal.NoRule, MayReturn: true}, before)
	})
	if ctx.Err() == nil || c.Withdrawn() == nil {
		t.Error("it lives on")
	}
}

func TestWhatMayComeBackIsGivenItsGrace(t *testing.T) {
	back, gone := &coming{}, &coming{}
	h := holder(t)
	h.Swap(open(t))
	g, _ := gateOf(t, h, 9)
	a, aContext := admitted(t, g)
	b, bContext := admitted(t, g)
	synctest.Test(t, func(t *testing.T) {
		back.gone.Store(true)
		gone.gone.Store(true)
		a.Hold(back, g.Snapshot())
		b.Hold(gone, g.Snapshot())
		g.Recheck(g.Snapshot())
		g.Recheck(g.Snapshot()) // a second recheck does not shorten it
		time.Sleep(Grace - time.Nanosecond)
		if aContext.Err() != nil || bContext.Err() != nil {
			t.Fatal("they were given no grace")
		}
		back.gone.Store(false)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if aContext.Err() != nil || bContext.Err() == nil || b.Withdrawn().Reason != refusal.NoHealthyUpstream {
			t.Errorf("what came back ended: %v; what did not: %v", a.Withdrawn(), b.Withdrawn())
		}
	})
}

// coming is a grant of something that may be gone.
type coming struct{ gone atomic.Bool }

func (c *coming) Recheck(*snapshot.Snapshot) Objection {
	if c.gone.Load() {
		return Objection{Reason: refusal.NoHealthyUpstream, MayReturn: true}
	}
	return Objection{}
}

// No obligation is supported yet, so whatever verdict comes with one is denied.
func TestAVerdictWithAnObligationThatNobodyKnowsIsDenied(t *testing.T) {
	rule := &policy.Rule{ID: "egress-policy/default/quota"}
	for _, action := range []policy.Action{policy.Allow, policy.Audit} {
		v := policy.Verdict{
			Action: action, Rule: rule, Treatment: policy.Forward, Name: names.MustParse("api.example.com"), Port: 80,
			Consent: policy.NewConsent(nil, nil), Obligations: []policy.Obligation{{Kind: "quota", Rule: rule.ID}},
		}
		oblige(&v)
		if v.Passes() || v.Reason != refusal.ObligationUnknown || !v.Reason.Denied() || v.Treatment != policy.Refuse || v.Rule != rule {
			t.Errorf("%+v", v)
		}
		if !v.Consent.Equal(policy.Consent{}) {
			t.Error("something may be dialled by it still")
		}
	}
	free := policy.Verdict{Action: policy.Allow, Treatment: policy.Forward}
	if oblige(&free); !free.Passes() {
		t.Error("a verdict without an obligation is denied")
	}
}

func TestACallToAServiceIsAllowedForAsLongAsThereAreRules(t *testing.T) {
	service := names.MustParse("details.default.svc.cluster.local")
	if v := DecideService(open(t), service, 9080); !v.Passes() || v.Treatment != policy.Mesh || v.Name != service {
		t.Errorf("%+v", v)
	}
	if v := DecideService(holder(t).Load(), service, 9080); v.Passes() || v.Reason != refusal.NoSnapshot {
		t.Errorf("without a snapshot: %+v", v)
	}
}
