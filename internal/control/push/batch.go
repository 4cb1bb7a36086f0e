package push

import (
	"context"
	"errors"
	"fmt"

	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/wire/stream"
)

// Collect asks every proxy for what was closed since it was asked last, and has store take
// the batch of each. What is not taken is asked for again the next time: store gets a batch
// twice where the proxy did not hear that it was taken. The error has store's first, and
// says whether a proxy did not answer in time.
func (s *Server) Collect(ctx context.Context, store func(...*record.Batch) error) (err error) {
	q, asked, err := s.proxies.ask(stream.Query{Kind: stream.QueryBatch})
	if err != nil {
		return err
	}
	defer s.proxies.withdraw(q)
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	gathered := make(map[*observer]*stream.Gather)
	ended := make(map[*observer]bool)
	var whole shared
	take := func(piece answer) {
		from := piece.from
		if piece.End {
			ended[from] = true
			delete(gathered, from)
			if piece.Error != "" {
				s.log.Debug("a proxy does not report what was closed", "proxy", from.name, "error", piece.Error)
			}
			return
		}
		if gathered[from] == nil {
			gathered[from] = new(stream.Gather)
		}
		if batch := gathered[from].Add(piece.Answer); batch != nil && err == nil {
			if !whole.fits(batch) {
				err = whole.store(store, &s.proxies)
			}
			whole.add(from, batch)
		}
	}
	for len(ended) < asked {
		select { // what has come already is stored together
		case piece := <-q.answers:
			take(piece)
			continue
		default:
		}
		if err == nil {
			err = whole.store(store, &s.proxies)
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, fmt.Errorf("%d of %d proxies did not report in time what was closed", asked-len(ended), asked))
		case piece := <-q.answers:
			take(piece)
		}
	}
	if err == nil {
		err = whole.store(store, &s.proxies)
	}
	return err
}

// Bounds of what is stored together: each time costs the disk as much as another, and
// forgets no more flows than flowstore does at once.
const (
	maxSharedSums  = 2 * record.MaxSums
	maxSharedFlows = record.MaxKept * 3 / 2
)

// shared is batches that are stored together.
type shared struct {
	from        []*observer
	batches     []*record.Batch
	sums, flows int
}

func (g *shared) fits(batch *record.Batch) bool {
	return len(g.batches) == 0 || g.sums+len(batch.Sums) <= maxSharedSums && g.flows+len(batch.Flows) <= maxSharedFlows
}

func (g *shared) add(from *observer, batch *record.Batch) {
	g.from, g.batches = append(g.from, from), append(g.batches, batch)
	g.sums += len(batch.Sums)
	g.flows += len(batch.Flows)
}

// store stores what there is, and tells the proxies.
func (g *shared) store(store func(...*record.Batch) error, to *proxies) error {
	if len(g.batches) == 0 {
		return nil
	}
	from, batches := g.from, g.batches
	*g = shared{}
	if err := store(batches...); err != nil {
		return err
	}
	for i, batch := range batches {
		to.stored(from[i], batch.Number)
	}
	return nil
}

// stored tells a proxy that its batch is. One that does not read hears it when it sends
// the batch again.
func (p *proxies) stored(o *observer, number uint64) {
	select {
	case o.queries <- &stream.Query{Format: stream.ObserveFormat, Kind: stream.QueryStored, Batch: number}:
	default:
	}
}
