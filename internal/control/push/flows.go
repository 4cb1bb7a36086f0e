package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/wire"
	"sluice.dev/sluice/internal/wire/stream"
)

// Bounds of questions.
const (
	// maxAnswers is how many pieces of answers wait for one reader; what comes on
	// top is dropped and counted.
	maxAnswers = 256
	// answerTimeout is how long a proxy may take to report past flows.
	answerTimeout = 2 * time.Second
	// maxQuestions bounds the questions of readers that are open at a time.
	maxQuestions = stream.MaxQueries / 2
	// ownQuestions is how many the server may have open beside them: readers who stay keep
	// it from nothing.
	ownQuestions = 4
)

// errTooManyQuestions says that maxQuestions are open.
var errTooManyQuestions = fmt.Errorf("%d questions about flows are open already: end one of them", maxQuestions)

// errFollowOpen says that what is open now cannot be followed.
var errFollowOpen = errors.New("flows that are open are listed as they are now: they cannot be followed")

// proxies is the connected proxies that answer questions, and the questions.
type proxies struct {
	reading sync.WaitGroup
	limit   int // of connected

	mu        sync.Mutex
	connected map[*observer]bool // true once it greeted: then it can be asked
	questions map[uint64]*question
	next      uint64
}

// observer is one connected proxy's stream of questions.
type observer struct {
	name    string
	who     *Attested          // nil: it speaks for every workload
	queries chan *stream.Query // that are to be sent
	stuck   func()             // ends the stream: the proxy does not read
}

// question is one that was put to the proxies.
type question struct {
	query   stream.Query
	answers chan answer
	asked   map[*observer]struct{} // under the lock of proxies
	dropped uint64                 // flows; under the lock of proxies
}

// answer is a piece of an answer and who gave it.
type answer struct {
	*stream.Answer
	from *observer
}

func (p *proxies) init(limit int) {
	p.limit = limit
	p.connected = make(map[*observer]bool)
	p.questions = make(map[uint64]*question)
}

// serve is the handler of a proxy's stream of questions.
func (p *proxies) serve(opened grpc.ServerStream, who *Attested) error {
	ctx, cancel := context.WithCancelCause(opened.Context())
	defer cancel(nil)
	o := &observer{who: who, queries: make(chan *stream.Query, 2*stream.MaxQueries)}
	if who != nil {
		expiry := time.AfterFunc(time.Until(who.Expires), func() { cancel(errExpired) })
		defer expiry.Stop()
	}
	o.stuck = func() { cancel(status.Error(codes.ResourceExhausted, "questions are not read")) }
	if err := p.reserve(o); err != nil {
		return err
	}
	defer p.disconnect(o)
	greeting := time.AfterFunc(joinTimeout, func() {
		cancel(status.Errorf(codes.DeadlineExceeded, "no greeting within %s", joinTimeout))
	})
	defer greeting.Stop()
	p.reading.Go(func() { cancel(p.receive(opened, o, greeting)) }) // ends with the stream, which ends with this handler
	for {
		select {
		case query := <-o.queries:
			if err := opened.SendMsg(query); err != nil {
				return err
			}
		case <-ctx.Done():
			err := context.Cause(ctx)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if _, ok := status.FromError(err); ok {
				return err
			}
			return status.FromContextError(err).Err()
		}
	}
}

// receive takes the greeting, and hands answers to those who asked.
func (p *proxies) receive(opened grpc.ServerStream, o *observer, greeting *time.Timer) error {
	hello := new(stream.Answer)
	if err := opened.RecvMsg(hello); err != nil {
		return err
	}
	greeting.Stop()
	if len(hello.Proxy) > wire.MaxProxyName {
		return status.Errorf(codes.InvalidArgument, "the proxy's name is longer than %d bytes", wire.MaxProxyName)
	}
	p.connect(o, hello.Proxy)
	for {
		piece := new(stream.Answer)
		if err := opened.RecvMsg(piece); err != nil {
			return err
		}
		if len(piece.Flows) > stream.MaxAnswerFlows {
			return status.Errorf(codes.InvalidArgument, "an answer has %d flows, more than %d", len(piece.Flows), stream.MaxAnswerFlows)
		}
		if len(piece.Sums) > stream.MaxAnswerSums {
			return status.Errorf(codes.InvalidArgument, "an answer has %d sums, more than %d", len(piece.Sums), stream.MaxAnswerSums)
		}
		if o.who != nil {
			piece.Sums = nil // whose they are is the proxy's word alone
			var there bool
			if piece.Flows, there = o.who.ownFlows(piece.Flows); !there {
				return errGone
			}
		}
		p.mu.Lock()
		p.deliver(piece.Query, answer{piece, o})
		p.mu.Unlock()
	}
}

// deliver gives one piece to who asked, or drops it. The lock is held. Flows
// leave room for the ends of all proxies, so that no reader waits for one that
// was dropped.
func (p *proxies) deliver(id uint64, piece answer) {
	q, ok := p.questions[id]
	if !ok {
		return
	}
	if _, asked := q.asked[piece.from]; !asked {
		return
	}
	if (len(piece.Flows) > 0 || piece.Batch != 0) && len(q.answers) >= maxAnswers {
		q.dropped += uint64(len(piece.Flows))
		return
	}
	select {
	case q.answers <- piece:
	default: // a proxy that ends one answer again and again
	}
}

// reserve keeps the bound on proxies: one for each connection.
func (p *proxies) reserve(o *observer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.connected) >= p.limit {
		return status.Errorf(codes.ResourceExhausted, "%d proxies are asked already", p.limit)
	}
	p.connected[o] = false
	return nil
}

// connect asks a proxy that greeted what is asked of all.
func (p *proxies) connect(o *observer, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, there := p.connected[o]; !there {
		return // it left meanwhile
	}
	o.name = name
	p.connected[o] = true
	for _, q := range p.questions {
		if q.query.Follow {
			p.put(q, o)
		}
	}
}

// disconnect ends what the proxy was asked.
func (p *proxies) disconnect(o *observer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.connected, o)
	for id, q := range p.questions {
		p.deliver(id, answer{&stream.Answer{Query: id, End: true}, o})
		delete(q.asked, o)
	}
}

// put asks one proxy. The lock is held. A proxy whose queue is full is not
// asked: it does not read.
func (p *proxies) put(q *question, o *observer) {
	select {
	case o.queries <- &q.query:
		q.asked[o] = struct{}{}
	default:
	}
}

// ask puts a question to every proxy and returns how many were asked.
func (p *proxies) ask(query stream.Query) (*question, int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	most := maxQuestions
	if query.Kind == stream.QueryBatch {
		most += ownQuestions
	}
	if len(p.questions) >= most {
		return nil, 0, errTooManyQuestions
	}
	p.next++
	query.Format, query.ID = stream.ObserveFormat, p.next
	q := &question{query: query, answers: make(chan answer, maxAnswers+3*p.limit), asked: make(map[*observer]struct{})}
	p.questions[query.ID] = q
	for o, greeted := range p.connected {
		if greeted {
			p.put(q, o)
		}
	}
	return q, len(q.asked), nil
}

// withdraw ends a question and returns how many flows its reader lost.
func (p *proxies) withdraw(q *question) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.questions, q.query.ID)
	for o := range q.asked {
		select {
		case o.queries <- &stream.Query{Format: stream.ObserveFormat, ID: q.query.ID, Kind: stream.QueryCancel}:
		default:
			o.stuck() // else it would report for ever what nobody wants
		}
	}
	return q.dropped
}

// Flows asks the proxies, calls accepted, and hands past flows to emit, or with
// query.Open those that are open, oldest first, and with query.Follow each new one
// until ctx ends or emit fails. It returns emit's error, or nil; an error before accepted says why nobody was
// asked. A reader that is slow loses flows; how many is logged.
func (s *Server) Flows(ctx context.Context, query inspect.FlowQuery, accepted func(), emit func(record.Record) error) error {
	last := min(max(query.Last, 0), inspect.MaxFlows)
	kind := stream.QueryFlows
	if query.Open {
		if query.Follow {
			return errFollowOpen
		}
		kind = stream.QueryOpen
	}
	q, asked, err := s.proxies.ask(stream.Query{Kind: kind, Workload: query.Workload, Last: last, Follow: query.Follow, Trace: query.Trace})
	if err != nil {
		return err
	}
	lost := losses{byProxy: make(map[*observer]uint64)}
	defer func() {
		if n := lost.sum() + s.proxies.withdraw(q); n > 0 {
			s.log.Warn("a reader of flows was too slow", "lost", n)
		}
	}()
	accepted()
	past, early := s.past(ctx, q, asked, last, &lost)
	slices.SortStableFunc(past, func(a, b record.Record) int { return a.Start.Compare(b.Start) })
	for _, f := range append(past[max(0, len(past)-last):], early...) {
		if err := emit(f); err != nil {
			return err
		}
	}
	for query.Follow {
		select {
		case <-ctx.Done():
			return nil
		case piece := <-q.answers:
			lost.note(piece)
			q.sift(piece)
			for _, f := range piece.Flows {
				if err := emit(f); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// sift takes out of an answer what a proxy that does not know of traces reports besides.
func (q *question) sift(piece answer) {
	wanted := record.Filter{Trace: q.query.Trace}
	piece.Flows = slices.DeleteFunc(piece.Flows, func(f record.Record) bool { return !wanted.Match(&f) })
}

// losses counts the flows that proxies say they dropped for one reader.
type losses struct {
	byProxy map[*observer]uint64 // of those that still report, in all
	ended   uint64               // of the others
}

func (l *losses) note(piece answer) {
	l.byProxy[piece.from] = max(l.byProxy[piece.from], piece.Dropped)
	if piece.End {
		l.ended += l.byProxy[piece.from]
		delete(l.byProxy, piece.from)
	}
}

func (l *losses) sum() uint64 {
	sum := l.ended
	for _, n := range l.byProxy {
		sum += n
	}
	return sum
}

// past gathers the past flows, or those that are open, of all proxies that were
// asked, at most last of each, and what those that were quicker reported of new ones
// meanwhile, at most inspect.MaxFlows.
func (s *Server) past(ctx context.Context, q *question, asked, last int, lost *losses) (past, early []record.Record) {
	timer := time.NewTimer(s.patience)
	defer timer.Stop()
	done := make(map[*observer]bool)
	told := make(map[*observer]int)
	for len(done) < asked {
		select {
		case <-ctx.Done():
			return past, early
		case <-timer.C:
			s.log.Warn("a proxy did not report its flows in time", "waited", s.patience)
			return past, early
		case piece := <-q.answers:
			lost.note(piece)
			q.sift(piece)
			if done[piece.from] {
				fits := min(len(piece.Flows), inspect.MaxFlows-len(early))
				early = append(early, piece.Flows[:fits]...)
				lost.ended += uint64(len(piece.Flows) - fits)
			} else {
				fits := min(len(piece.Flows), last-told[piece.from])
				past = append(past, piece.Flows[:fits]...)
				told[piece.from] += fits
			}
			if piece.Past || piece.End {
				done[piece.from] = true
			}
			if piece.Error != "" {
				s.log.Warn("a proxy cannot report its flows", "proxy", piece.from.name, "error", piece.Error)
			}
		}
	}
	return past, early
}

// Flow finds one that some proxy's ring still holds. An error says that not all
// proxies could be asked, and none of the others had it.
func (s *Server) Flow(ctx context.Context, id record.ID) (found record.Record, ok bool, err error) {
	q, asked, err := s.proxies.ask(stream.Query{Kind: stream.QueryFlow, FlowID: id})
	if err != nil {
		return record.Record{}, false, err
	}
	defer s.proxies.withdraw(q)
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	ended := make(map[*observer]bool)
	for len(ended) < asked {
		select {
		case <-ctx.Done():
			return record.Record{}, false, fmt.Errorf("%d of %d proxies did not answer within %s", asked-len(ended), asked, s.patience)
		case piece := <-q.answers:
			if at := slices.IndexFunc(piece.Flows, func(f record.Record) bool { return f.ID == id }); at >= 0 {
				return piece.Flows[at], true, nil
			}
			if piece.End {
				ended[piece.from] = true
			}
		}
	}
	return record.Record{}, false, nil
}

// Proxies lists the names of the proxies that answer questions, sorted.
func (s *Server) Proxies() []string {
	s.proxies.mu.Lock()
	defer s.proxies.mu.Unlock()
	names := make([]string, 0, len(s.proxies.connected))
	for o, greeted := range s.proxies.connected {
		if greeted {
			names = append(names, o.name)
		}
	}
	slices.SortFunc(names, cmp.Compare)
	return names
}
