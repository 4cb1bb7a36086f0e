package upstream

import (
	"context"
	"io"
	"net"
	"testing"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/share"
)

// within dials, and gives up only after what no working pool needs.
func within(t *testing.T, p *Pool) stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	st, err := p.Dial(ctx)
	return stream{st, err}
}

// Between Take, which finds every stream taken, and the place in line a stream may end: nobody is
// handed it, for nobody waits yet.
func TestAStreamThatEndedJustBeforeTheWaitBeganIsTaken(t *testing.T) {
	bounded, _, of := circuitOf(t, 1, overHTTP2(t, 2))
	to := overHTTP2(t, 2)
	to.Allowance = allowance(1)
	for name, p := range map[string]*Pool{"of a circuit": bounded, "of the workload's connections": newPool(t, to)} {
		first, second := begun(t, p), begun(t, p)
		if p.Take() != nil {
			t.Fatal("a third stream of two")
		}
		first.Release(true)
		st := within(t, p)
		if st.err != nil {
			t.Errorf("%s: %v", name, st.err)
			continue
		}
		if p.Take() != nil || p.config.Open.Waiting() != 0 || p.config.Open.Used() != 1 {
			t.Errorf("%s: %d wait, %d are counted", name, p.config.Open.Waiting(), p.config.Open.Used())
		}
		st.Release(true)
		second.Release(true)
	}
	if left := of.left(); left != "1 connections, 0 wait in line, 0 are counted as waiting" {
		t.Error(left)
	}
}

// Who is handed a connection has left the line: one whose streams others took is not handed over,
// and who was handed one that others were quicker to use counts as waiting all along.
func TestAConnectionWithoutAStreamLeftIsHandedToNobody(t *testing.T) {
	p, _, of := circuitOf(t, 1, overHTTP2(t, 2))
	first, second := begun(t, p), begun(t, p)
	third := begin(p)
	eventually(t, "a third one waits", func() bool { return of.connections.Waiting() == 1 })
	full := p.shared.all[0]
	if p.handOnShared(of.connections, full) || of.connections.Waiting() != 1 {
		t.Error("a connection without a stream left is handed over")
	}
	began := of.began.Load()
	if !of.connections.HandOver(p, full) {
		t.Fatal("nobody waits")
	}
	eventually(t, "it waits again", func() bool { return of.connections.Waiting() == 1 })
	if of.began.Load() != began {
		t.Error("who waits on is counted as one that begins to wait, and might be refused")
	}
	first.Release(true)
	st := <-third
	if st.err != nil {
		t.Fatal(st.err)
	}
	st.Release(true)
	second.Release(true)
	if left := of.left(); left != "1 connections, 0 wait in line, 0 are counted as waiting" {
		t.Error(left)
	}
}

// A server may say at any time that it takes more streams than before.
func TestWhoWaitsIsServedWhereTheServerTakesMoreStreams(t *testing.T) {
	raise := make(chan struct{})
	address := server(t, func(c net.Conn) {
		io.WriteString(c, "\x00\x00\x06\x04\x00\x00\x00\x00\x00"+"\x00\x03\x00\x00\x00\x01") // SETTINGS_MAX_CONCURRENT_STREAMS 1
		go func() {
			<-raise
			io.WriteString(c, "\x00\x00\x06\x04\x00\x00\x00\x00\x00"+"\x00\x03\x00\x00\x00\x02")
		}()
		io.Copy(io.Discard, c)
	})
	open := share.NewStock(share.Config{Units: 1, Alone: true}).Join(0, nil)
	p := newPool(t, Config{Versions: HTTP2, Dial: dialTo(address), Allowance: Allowance{Open: open, Handshakes: allowance(1).Handshakes}})
	first, second := begun(t, p), begin(p)
	eventually(t, "a second one waits", func() bool { return open.Waiting() == 1 })
	close(raise)
	st := <-second
	if st.err != nil {
		t.Fatal(st.err)
	}
	st.Release(true)
	first.Release(true)
}

// A connection with a stream under way at any moment is never idle: it makes way all the same, and
// who asks for a stream afterwards waits behind the one that waited first.
func TestAConnectionThatIsNeverIdleMakesWayForWhoWaitsForAnotherPool(t *testing.T) {
	a, b, of := circuitOf(t, 1, overHTTP2(t, 3))
	stays := begun(t, a)
	other := begin(b)
	eventually(t, "one of another pool waits", func() bool { return of.connections.Waiting() == 1 })
	conn := a.shared.all[0]
	begun(t, a).Release(true) // one more comes and goes
	eventually(t, "the connection takes no more", func() bool { return !conn.session.Usable() })
	if a.Take() != nil {
		t.Error("it takes one more")
	}
	stays.Release(true)
	st := <-other
	if st.err != nil {
		t.Fatal(st.err)
	}
	st.Release(true)
	eventually(t, "the first one has ended", func() bool { return a.Stats() == Stats{} })
}

// For one who waits a pool gives up one connection, not all that it has.
func TestOneConnectionAtATimeMakesWay(t *testing.T) {
	a, b, of := circuitOf(t, 2, overHTTP2(t, 2))
	var all []exchange.Stream
	for range 4 {
		all = append(all, begun(t, a))
	}
	other := begin(b)
	eventually(t, "one of another pool waits", func() bool { return of.connections.Waiting() == 1 })
	first, second := a.shared.all[0], a.shared.all[1]
	if !a.handOnShared(of.connections, first) || a.handOnShared(of.connections, second) {
		t.Error("not the first alone makes way")
	}
	if first.session.Usable() || !second.session.Usable() {
		t.Error("not the first alone takes no more")
	}
	for _, st := range all {
		st.Release(true)
	}
	st := <-other
	if st.err != nil {
		t.Fatal(st.err)
	}
	st.Release(true)
}
