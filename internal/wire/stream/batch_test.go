package stream

import (
	"context"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/record"
)

func TestABatchOfWhichAPieceIsMissingOrTooMuchIsNotWhole(t *testing.T) {
	sums := func(n int) []record.Sum { return make([]record.Sum, n) }
	for what, pieces := range map[string][]*Answer{
		"a piece is missing":     {{Batch: 1, Sums: sums(1)}, {Batch: 1, Whole: &Whole{Sums: 2}}},
		"another's":              {{Batch: 1, Sums: sums(1)}, {Batch: 2, Sums: sums(1)}, {Batch: 2, Whole: &Whole{Sums: 2}}},
		"flows that nobody sent": {{Batch: 1, Sums: sums(1)}, {Batch: 1, Whole: &Whole{Sums: 1, Flows: 1}}},
		"too many sums":          {{Batch: 1, Sums: sums(2 * record.MaxSums)}, {Batch: 1, Sums: sums(1)}, {Batch: 1, Whole: &Whole{Sums: 2*record.MaxSums + 1}}},
		"too many flows":         {{Batch: 1, Flows: make([]record.Record, record.MaxKept+1)}, {Batch: 1, Whole: &Whole{Flows: record.MaxKept + 1}}},
	} {
		var g Gather
		for _, piece := range pieces {
			if b := g.Add(piece); b != nil {
				t.Errorf("%s: it is taken for whole: %d sums, %d flows", what, len(b.Sums), len(b.Flows))
			}
		}
	}
	var g Gather
	g.Add(&Answer{Batch: 1, Sums: sums(1)})
	if b := g.Add(&Answer{Batch: 1, Flows: make([]record.Record, 2), Whole: &Whole{Sums: 1, Flows: 2, Lost: record.Losses{Folded: 3}}}); b == nil || b.Number != 1 || b.Lost.Folded != 3 {
		t.Errorf("a whole one: %+v", b)
	}
}

func TestAProxyThatSumsNothingUpSaysSo(t *testing.T) {
	h := new(heard)
	a := &answers{stream: h, open: make(map[uint64]context.CancelFunc)}
	for _, query := range []*Query{{Kind: QueryStored, Batch: 1}, {ID: 5, Kind: QueryBatch}} {
		if err := a.take(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	a.work.Wait()
	if len(h.sent) != 1 || !h.sent[0].End || !strings.Contains(h.sent[0].Error, "sums no flows up") {
		t.Errorf("%+v", h.sent)
	}
}
