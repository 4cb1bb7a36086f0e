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

// What a client says while there is no memory to read it is no silence, however long that
// takes.
func TestWhatComesWhileThereIsNoMemoryIsNoSilence(t *testing.T) {
	for _, ends := range []bool{false, true} {
		of := share.NewStock(share.Config{Units: 1, Alone: true}).Join(0, nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		theirs, ours := connected(t)
		until := func(condition func() bool) {
			for !condition() {
				time.Sleep(time.Millisecond)
			}
		}
		of.Try(1)
		done := make(chan reading, 1)
		buf := new(Buffers).NewBuffer(of)
		go func() {
			r, prefix, err := Read(ctx, ours, buf, Limits{Rest: time.Minute, Silence: time.Minute})
			done <- reading{r, len(prefix), err}
		}()
		until(func() bool { return of.Waiting() == 1 })
		of.Give(1)
		until(func() bool { return of.Waiting() == 0 && of.Try(1) }) // given back: the client has said nothing
		theirs.Write([]byte("GET / HTTP/1.1\r\n"))
		until(func() bool { return of.Waiting() == 1 })
		ours.SetReadDeadline(time.Unix(1, 0)) // as if it came now
		if ends {
			cancel()
			if r := <-done; !errors.Is(r.err, context.Canceled) {
				t.Errorf("%+v", r)
			}
			if n, err := ours.Read(make([]byte, 16)); err != nil || n != 16 {
				t.Errorf("a deadline is left: %v", err)
			}
			continue
		}
		of.Give(1)
		if r := <-done; !r.is(policy.HTTP) || r.result.Silent || r.prefix != 16 {
			t.Errorf("%+v", r)
		}
		buf.Release()
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
