package stream

import (
	"errors"
	"slices"

	"sluice.dev/sluice/internal/record"
)

// batch sends what was closed since the batch that was stored last, piece by piece;
// nothing where nothing was.
func (a *answers) batch(query *Query) error {
	if a.tally == nil {
		return errors.New("this proxy sums no flows up")
	}
	b := a.tally.Batch()
	if b == nil {
		return nil
	}
	for sums := range slices.Chunk(b.Sums, MaxAnswerSums) {
		if err := a.send(&Answer{Query: query.ID, Batch: b.Number, Sums: sums}); err != nil {
			return err
		}
	}
	for flows := range slices.Chunk(b.Flows, MaxAnswerFlows) {
		if err := a.send(&Answer{Query: query.ID, Batch: b.Number, Flows: flows}); err != nil {
			return err
		}
	}
	return a.send(&Answer{Query: query.ID, Batch: b.Number, Whole: &Whole{Sums: len(b.Sums), Flows: len(b.Flows), Lost: b.Lost}})
}

// Gather puts the pieces of one batch together; the zero one has none.
type Gather struct {
	batch record.Batch
	bad   bool
}

// Add takes a piece. It returns the batch once that is whole: nil before, and for one of
// which pieces are missing, or that is larger than any is.
func (g *Gather) Add(piece *Answer) *record.Batch {
	if g.batch.Number != piece.Batch {
		*g = Gather{batch: record.Batch{Number: piece.Batch}}
	}
	b := &g.batch
	if g.bad = g.bad || len(b.Sums)+len(piece.Sums) > 2*record.MaxSums || len(b.Flows)+len(piece.Flows) > record.MaxKept; g.bad {
		return nil
	}
	b.Sums, b.Flows = append(b.Sums, piece.Sums...), append(b.Flows, piece.Flows...)
	if piece.Whole == nil || piece.Whole.Sums != len(b.Sums) || piece.Whole.Flows != len(b.Flows) {
		return nil
	}
	b.Lost = piece.Whole.Lost
	return b
}
