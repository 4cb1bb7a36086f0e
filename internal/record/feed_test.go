package record

import (
	"errors"
	"testing"
	"testing/synctest"
)

func TestAFeedHandsOutEveryRecordInOrderAndThenEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		feed := NewFeed(10)
		var got []ID
		go func() {
			for id := range ID(20) {
				feed.Closed(&Record{ID: id + 1})
				if id%5 == 4 {
					synctest.Wait() // the reader has caught up
				}
			}
			feed.End()
		}()
		if err := feed.Each(func(r *Record) error { got = append(got, r.ID); return nil }); err != nil {
			t.Error(err)
		}
		if len(got) != 20 || feed.Dropped() != 0 {
			t.Fatalf("%d of 20, %d dropped", len(got), feed.Dropped())
		}
		for i, id := range got {
			if id != ID(i+1) {
				t.Fatalf("out of order: %v", got)
			}
		}
	})
}

func TestAFeedThatIsNotReadIsBoundedAndCountsWhatItDrops(t *testing.T) {
	feed := NewFeed(3)
	for id := range ID(10) {
		feed.Closed(&Record{ID: id + 1})
	}
	feed.End()
	feed.Closed(&Record{ID: 11})
	n := 0
	feed.Each(func(*Record) error { n++; return nil })
	if n != 3 || feed.Dropped() != 8 {
		t.Errorf("%d were read and %d dropped; want 3 and 8", n, feed.Dropped())
	}
}

func TestAReaderThatFailsEndsItsFeed(t *testing.T) {
	feed, full := NewFeed(3), errors.New("disk full")
	feed.Closed(&Record{ID: 1})
	if err := feed.Each(func(*Record) error { return full }); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
}
