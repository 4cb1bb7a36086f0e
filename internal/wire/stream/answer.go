package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sluice.dev/sluice/internal/pause"
	"sluice.dev/sluice/internal/record"
)

// followBuffer is how many flows wait for a server that reads slowly; more are
// dropped and counted.
const followBuffer = 1024

// observe answers the server's questions for as long as the client lives.
func (c *Client) observe() {
	wait := MinBackoff
	for c.ctx.Err() == nil {
		heard, err := c.answer(c.ctx)
		if heard {
			wait = MinBackoff
		}
		if c.ctx.Err() == nil {
			level := slog.LevelDebug
			if status.Code(err) != codes.Unavailable {
				level = slog.LevelWarn // not a server that is away
			}
			c.log.Log(c.ctx, level, "the stream of questions about flows ended", "error", err, "again", wait)
		}
		_ = pause.For(c.ctx, wait)
		wait = min(time.Duration(float64(wait)*multiplier), MaxBackoff)
	}
}

// answer opens the stream of questions and serves it until it ends.
func (c *Client) answer(ctx context.Context) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	desc := ObserveDesc()
	opened, err := c.conn.NewStream(ctx, &desc, "/"+ObserveService+"/"+ObserveMethod)
	if err != nil {
		cancel()
		return false, fmt.Errorf("open stream of questions: %w", err)
	}
	answers := &answers{stream: opened, ring: c.config.Flows, live: c.config.Live, tally: c.config.Tally, open: make(map[uint64]context.CancelFunc)}
	// Questions end with the stream: first they are cancelled, then waited for.
	defer answers.work.Wait()
	defer cancel()
	if err := answers.send(&Answer{Proxy: c.config.Proxy}); err != nil {
		return false, fmt.Errorf("greet: %w", err)
	}
	for {
		query := new(Query)
		if err := opened.RecvMsg(query); err != nil {
			return heard, fmt.Errorf("read question: %w", err)
		}
		heard = true
		if err := answers.take(ctx, query); err != nil {
			return heard, err
		}
	}
}

// answers is the open questions of one stream.
type answers struct {
	ring  *record.Ring
	tally *record.Tally
	live  func(n int, filter record.Filter) []record.Record
	work  sync.WaitGroup

	sending sync.Mutex
	stream  grpc.ClientStream

	mu   sync.Mutex
	open map[uint64]context.CancelFunc
}

func (a *answers) send(answer *Answer) error {
	answer.Format = ObserveFormat
	a.sending.Lock()
	defer a.sending.Unlock()
	return a.stream.SendMsg(answer)
}

// take begins to answer a question, or ends one.
func (a *answers) take(ctx context.Context, query *Query) error {
	switch query.Kind {
	case QueryCancel:
		a.finish(query.ID)
		return nil
	case QueryStored:
		if a.tally != nil {
			a.tally.Stored(query.Batch)
		}
		return nil
	}
	ctx, err := a.begin(ctx, query.ID)
	if err != nil {
		return a.send(&Answer{Query: query.ID, End: true, Error: err.Error()})
	}
	a.work.Go(func() {
		defer a.finish(query.ID)
		last := Answer{Query: query.ID, End: true}
		if err := a.reply(ctx, query); err != nil && ctx.Err() == nil {
			last.Error = err.Error()
		}
		_ = a.send(&last) // an error is the end of the stream, which its reader sees
	})
	return nil
}

func (a *answers) begin(ctx context.Context, id uint64) (context.Context, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.open) >= MaxQueries {
		return nil, fmt.Errorf("%d questions are open already", MaxQueries)
	}
	if _, taken := a.open[id]; taken {
		return nil, fmt.Errorf("question %d is open already", id)
	}
	ctx, cancel := context.WithCancel(ctx)
	a.open[id] = cancel
	return ctx, nil
}

func (a *answers) finish(id uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if cancel, ok := a.open[id]; ok {
		cancel()
		delete(a.open, id)
	}
}

func (a *answers) reply(ctx context.Context, query *Query) error {
	switch query.Kind {
	case QueryOpen:
		return a.openNow(query)
	case QueryBatch:
		return a.batch(query)
	}
	if a.ring == nil {
		return errors.New("this proxy keeps no flows")
	}
	switch query.Kind {
	case QueryFlow:
		found, ok := a.ring.Get(query.FlowID)
		if !ok {
			return nil
		}
		return a.send(&Answer{Query: query.ID, Flows: []record.Record{found}})
	case QueryFlows:
		return a.flows(ctx, query)
	}
	return fmt.Errorf("question %q is not known", query.Kind)
}

// openNow sends what is open, with the bytes that it carried so far.
func (a *answers) openNow(query *Query) error {
	if a.live == nil {
		return errors.New("this proxy does not list what is open")
	}
	return a.all(query, a.live(atMost(query), record.Filter{Workload: query.Workload, Trace: query.Trace}))
}

// atMost is how many flows the question is answered with.
func atMost(query *Query) int { return min(max(query.Last, 0), record.RingSize) }

// all sends flows piece by piece, and then says that these were all.
func (a *answers) all(query *Query, flows []record.Record) error {
	for piece := range slices.Chunk(flows, MaxAnswerFlows) {
		if err := a.send(&Answer{Query: query.ID, Flows: piece}); err != nil {
			return err
		}
	}
	return a.send(&Answer{Query: query.ID, Past: true})
}

// flows sends past flows, and new ones while the question is open. It follows
// first and looks back then, so that none is lost between; one that is in both
// is sent once.
func (a *answers) flows(ctx context.Context, query *Query) error {
	filter := record.Filter{Workload: query.Workload, Trace: query.Trace}
	var follower *record.Follower
	if query.Follow {
		var err error
		if follower, err = a.ring.Follow(ctx, followBuffer); err != nil {
			return err
		}
	}
	past := a.ring.Recent(atMost(query), filter)
	sent := make(map[record.ID]bool)
	if query.Follow {
		for _, f := range past {
			sent[f.ID] = true
		}
	}
	if err := a.all(query, past); err != nil || !query.Follow {
		return err
	}
	for {
		next, err := follower.Next()
		if err != nil {
			return nil // the question was withdrawn
		}
		if sent[next.ID] {
			delete(sent, next.ID)
			continue
		}
		if !filter.Match(&next) {
			continue
		}
		if err := a.send(&Answer{Query: query.ID, Flows: []record.Record{next}, Dropped: follower.Dropped()}); err != nil {
			return err
		}
	}
}
