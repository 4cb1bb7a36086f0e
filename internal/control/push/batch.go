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
func (s *Server) Collect(ctx context.Context, store func(*record.Batch) error) (err error) {
	q, asked, err := s.proxies.ask(stream.Query{Kind: stream.QueryBatch})
	if err != nil {
		return err
	}
	defer s.proxies.withdraw(q)
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	gathered := make(map[*observer]*stream.Gather)
	ended := make(map[*observer]bool)
	for len(ended) < asked {
		select {
		case <-ctx.Done():
			return errors.Join(err, fmt.Errorf("%d of %d proxies did not report in time what was closed", asked-len(ended), asked))
		case piece := <-q.answers:
			from := piece.from
			if piece.End {
				ended[from] = true
				delete(gathered, from)
				if piece.Error != "" {
					s.log.Debug("a proxy does not report what was closed", "proxy", from.name, "error", piece.Error)
				}
				continue
			}
			if gathered[from] == nil {
				gathered[from] = new(stream.Gather)
			}
			batch := gathered[from].Add(piece.Answer)
			if batch == nil || err != nil {
				continue
			}
			if err = store(batch); err == nil {
				s.proxies.stored(from, batch.Number)
			}
		}
	}
	return err
}

// stored tells a proxy that its batch is. One that does not read hears it when it sends
// the batch again.
func (p *proxies) stored(o *observer, number uint64) {
	select {
	case o.queries <- &stream.Query{Format: stream.ObserveFormat, Kind: stream.QueryStored, Batch: number}:
	default:
	}
}
