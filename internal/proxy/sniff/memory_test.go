package sniff

import (
	"context"
	"errors"
	"testing"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/share"
)

// reading is a Read at work.
type reading struct {
	result Result
	prefix int
	err    error
}

func (r reading) is(kind policy.Sniffed) bool { return r.err == nil && r.result.Kind == kind }

// A workload may have said half a thing on so many connections only; who comes then waits
// for memory, without holding any.
func TestAConnectionWaitsForMemoryThatHalfHellosHold(t *testing.T) {
	stock := share.NewStock(share.Config{Units: 2, Alone: true})
	of := stock.Join(0, nil)
	var pool Buffers
	ctx, cancel := context.WithCancel(t.Context())
	read := func(first []byte) (send func([]byte), done <-chan reading) {
		theirs, ours := connected(t)
		c := make(chan reading, 1)
		go func() {
			buf := pool.NewBuffer(of)
			defer buf.Release()
			r, prefix, err := Read(ctx, ours, buf, Limits{Rest: time.Minute, Silence: time.Minute})
			c <- reading{r, len(prefix), err}
		}()
		send = func(b []byte) {
			if _, err := theirs.Write(b); err != nil {
				t.Error(err)
			}
		}
		send(first)
		return send, c
	}
	half := []byte("GET / HT")
	finish, first := read(half)
	_, second := read(half)
	for of.Used() < 2 {
		time.Sleep(time.Millisecond)
	}
	_, third := read([]byte("GET / HTTP/1.1\r\n"))
	for of.Waiting() == 0 {
		time.Sleep(time.Millisecond)
	}
	finish([]byte("TP/1.1\r\n"))
	if r := <-first; !r.is(policy.HTTP) {
		t.Errorf("the first: %+v", r)
	}
	if r := <-third; !r.is(policy.HTTP) {
		t.Errorf("the third: %+v", r)
	}
	// One that needs a large buffer waits for as much, in vain here.
	_, large := read(one(madeUp(padding(40<<10), serverName("www.example.com"), versions13))[:20<<10])
	for of.Waiting() == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if r := <-large; !errors.Is(r.err, context.Canceled) {
		t.Errorf("the large one: %+v", r)
	}
	select {
	case r := <-second:
		t.Errorf("the second: %+v", r)
	default:
	}
}

func TestAConnectionThatGetsNoMemoryInTimeIsNotRead(t *testing.T) {
	of := share.NewStock(share.Config{Units: 1, Alone: true}).Join(0, nil)
	of.Try(1)
	theirs, ours := connected(t)
	theirs.Write([]byte("GET / HTTP/1.1\r\n"))
	buf := new(Buffers).NewBuffer(of)
	if _, _, err := Read(t.Context(), ours, buf, Limits{Rest: time.Millisecond}); !errors.Is(err, share.ErrWait) || of.Used() != 1 {
		t.Errorf("%v, %d are counted", err, of.Used())
	}
}

func TestABufferCountsWhatItTakesAndGivesItBack(t *testing.T) {
	of := share.NewStock(share.Config{Units: 9, Alone: true}).Join(0, nil)
	buf := new(Buffers).NewBuffer(of)
	for range 2 {
		buf.used += len(buf.room())
		small := of.Used()
		buf.room()
		if large := of.Used(); small != 1 || large != largeUnits {
			t.Errorf("%d units, then %d", small, large)
		}
		buf.Release()
		buf.Release()
		if of.Used() != 0 {
			t.Errorf("%d units are left", of.Used())
		}
	}
}
