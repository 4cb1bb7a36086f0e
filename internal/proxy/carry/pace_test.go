package carry

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
)

func TestDenialsBeyondTheirPaceComeLateAndNoneIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := 0
		d := NewDenials(func() { late++ })
		answer := exchange.Direction{ID: 7, Reply: &exchange.Reply{Status: 403}}
		for i := range DenialsBurst {
			if got := d.reply(answer); got.Reply != answer.Reply || got.Later != nil {
				t.Fatalf("denial %d is late", i)
			}
		}
		const beyond = 100
		start := time.Now()
		for range beyond {
			got := d.reply(answer)
			if got.Reply != nil || got.Later == nil || got.ID != 7 {
				t.Fatalf("beyond the pace: %+v", got)
			}
			if got := got.Later(t.Context()); got.Reply != answer.Reply || got.ID != 7 {
				t.Fatalf("what comes late is %+v", got)
			}
		}
		if took, want := time.Since(start), beyond*time.Second/DenialsPerSecond; took < want-time.Millisecond || took > want+time.Second/DenialsPerSecond {
			t.Errorf("%d denials beyond the pace took %v, want %v", beyond, took, want)
		}
		if late != beyond || d.Delayed() != beyond {
			t.Errorf("%d were told of, %d counted, want %d", late, d.Delayed(), beyond)
		}
		gone, leave := context.WithCancel(t.Context())
		leave()
		start = time.Now()
		if d.Wait(gone); time.Since(start) != 0 {
			t.Error("a denial is waited for whose connection ended")
		}
		d = nil
		if d.Wait(t.Context()); d.reply(answer).Later != nil {
			t.Error("no pace holds somebody up")
		}
	})
}

// Who leaves while its denial waits leaves nothing that those after it wait for.
func TestADenialThatIsNotWaitedForDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDenials(func() {})
		for range DenialsBurst {
			d.Wait(t.Context())
		}
		leaving, leave := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for range 10 * DenialsPerSecond {
			group.Go(func() { d.Wait(leaving) })
			d.reply(exchange.Direction{}) // and its connection ends before Later
		}
		synctest.Wait()
		leave()
		group.Wait()
		start := time.Now()
		if d.Wait(t.Context()); time.Since(start) > time.Second/DenialsPerSecond {
			t.Errorf("the next denial waited for %v", time.Since(start))
		}
	})
}
