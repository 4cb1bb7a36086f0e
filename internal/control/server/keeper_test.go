package server

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"sluice.dev/sluice/internal/control/flowstore"
	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/record"
)

// Readers who wait while the proxies are asked share what is asked next: it is newer than
// what they want, and their number is not how often proxies are asked.
func TestReadersThatWaitShareOneQuestionToTheProxies(t *testing.T) {
	store := flowstore.Open(filepath.Join(t.TempDir(), "flows.db"), time.Now, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { store.Close() })
	synctest.Test(t, func(t *testing.T) {
		asked, answer := 0, make(chan error)
		k := newKeeper(store, func(ctx context.Context, _ func(...*record.Batch) error) error {
			asked++
			select {
			case err := <-answer:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}, slog.New(slog.DiscardHandler))
		got := make(chan error, 10)
		read := func(ctx context.Context) { got <- k.gather(ctx) }
		go read(t.Context())
		synctest.Wait()
		impatient, leave := context.WithCancel(t.Context())
		go read(impatient)
		for range 5 {
			go read(t.Context())
		}
		synctest.Wait()
		leave()
		if err := <-got; !errors.Is(err, context.Canceled) || asked != 1 {
			t.Errorf("who left waits: %v, asked %d times", err, asked)
		}
		answer <- nil
		if err := <-got; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		silent := errors.New("a proxy is silent")
		answer <- silent
		for range 5 {
			if err := <-got; !errors.Is(err, silent) {
				t.Errorf("one that shares: %v", err)
			}
		}
		if asked != 2 {
			t.Errorf("asked %d times", asked)
		}
		// One that comes afterwards, and one that waits for a reader who leaves, ask anew.
		asking, leave := context.WithCancel(t.Context())
		go read(asking)
		synctest.Wait()
		go read(t.Context())
		synctest.Wait()
		leave()
		if err := <-got; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		answer <- nil
		if err := <-got; err != nil || asked != 4 {
			t.Errorf("%v, asked %d times", err, asked)
		}
	})
}

// A reader who is gone is answered with no work.
func TestAReaderWhoIsGoneReadsNothing(t *testing.T) {
	store := flowstore.Open(filepath.Join(t.TempDir(), "flows.db"), time.Now, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { store.Close() })
	ctx, leave := context.WithCancel(t.Context())
	k := newKeeper(store, func(ctx context.Context, _ func(...*record.Batch) error) error { leave(); return ctx.Err() }, slog.New(slog.DiscardHandler))
	if _, err := k.Summary(ctx, inspect.SummaryQuery{Since: time.Now()}); !errors.Is(err, context.Canceled) {
		t.Errorf("summed up: %v", err)
	}
	if _, err := k.Kept(ctx, 1, record.Filter{}); !errors.Is(err, context.Canceled) {
		t.Errorf("read: %v", err)
	}
}
