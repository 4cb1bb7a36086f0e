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
	"sluice.dev/sluice/internal/flow"
	"sluice.dev/sluice/internal/wire/stream"
)

// Bounds of questions.
const (
	// maxAnswers is how many pieces of answers wait for one reader; what comes on
	// top is dropped and counted.
	maxAnswers = 256
	// answerTimeout is how long a proxy may take to tell past flows.
	answerTimeout = 2 * time.Second
	// maxQuestions bounds the questions that are open at a time.
	maxQuestions = stream.MaxQueries / 2
)

// errTooManyQuestions says that maxQuestions are open.
var errTooManyQuestions = errors.New("push: too many questions about flows are open")

// proxies is the connected proxies that answer questions, and the questions.
type proxies struct {
	reading sync.WaitGroup

	mu        sync.Mutex
	connected map[*observer]struct{}
	questions map[uint64]*question
	next      uint64
}

// observer is one connected proxy's stream of questions.
type observer struct {
	name    string
	queries chan *stream.Query // that are to be sent
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

func (p *proxies) init() {
	p.connected = make(map[*observer]struct{})
	p.questions = make(map[uint64]*question)
}

// serve is the handler of a proxy's stream of questions.
func (p *proxies) serve(opened grpc.ServerStream) error {
	hello := new(stream.Answer)
	if err := opened.RecvMsg(hello); err != nil {
		return err
	}
	o := &observer{name: hello.Proxy, queries: make(chan *stream.Query, 2*stream.MaxQueries)}
	p.connect(o)
	defer p.disconnect(o)
	failed := make(chan error, 1)
	p.reading.Go(func() { failed <- p.receive(opened, o) }) // ends with the stream, which ends with this handler
	for {
		select {
		case query := <-o.queries:
			if err := opened.SendMsg(query); err != nil {
				return err
			}
		case err := <-failed:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-opened.Context().Done():
			return status.FromContextError(opened.Context().Err()).Err()
		}
	}
}

// receive hands answers to those who asked.
func (p *proxies) receive(opened grpc.ServerStream, o *observer) error {
	for {
		piece := new(stream.Answer)
		if err := opened.RecvMsg(piece); err != nil {
			return err
		}
		if len(piece.Flows) > stream.MaxAnswerFlows {
			return status.Errorf(codes.InvalidArgument, "an answer with %d flows", len(piece.Flows))
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
	if len(piece.Flows) > 0 && len(q.answers) >= maxAnswers {
		q.dropped += uint64(len(piece.Flows))
		return
	}
	select {
	case q.answers <- piece:
	default: // a proxy that ends one answer again and again
	}
}

func (p *proxies) connect(o *observer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.connected[o] = struct{}{}
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
		if _, asked := q.asked[o]; asked {
			delete(q.asked, o)
			p.deliver(id, answer{&stream.Answer{Query: id, End: true}, o})
		}
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
	if len(p.questions) >= maxQuestions {
		return nil, 0, errTooManyQuestions
	}
	p.next++
	query.ID = p.next
	q := &question{query: query, answers: make(chan answer, maxAnswers+3*MaxConnections), asked: make(map[*observer]struct{})}
	p.questions[query.ID] = q
	for o := range p.connected {
		p.put(q, o)
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
		case o.queries <- &stream.Query{ID: q.query.ID, Kind: stream.QueryCancel}:
		default: // it does not read; its stream will end
		}
	}
	return q.dropped
}

// Flows hands past flows to emit, oldest first, and with query.Follow each new
// one until ctx ends or emit fails. It returns emit's error, or nil. A reader
// that is slow loses flows; how many is logged.
func (s *Server) Flows(ctx context.Context, query inspect.FlowQuery, emit func(flow.Flow) error) error {
	last := min(max(query.Last, 0), inspect.MaxFlows)
	q, asked, err := s.proxies.ask(stream.Query{Kind: stream.QueryFlows, Workload: query.Workload, Last: last, Follow: query.Follow})
	if err != nil {
		return err
	}
	lostByProxy := make(map[*observer]uint64)
	defer func() {
		lost := s.proxies.withdraw(q)
		for _, n := range lostByProxy {
			lost += n
		}
		if lost > 0 {
			s.log.Warn("a reader of flows was too slow", "lost", lost)
		}
	}()
	past, early := s.past(ctx, q, asked, lostByProxy)
	slices.SortStableFunc(past, func(a, b flow.Flow) int { return a.Start.Compare(b.Start) })
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
			lostByProxy[piece.from] = max(lostByProxy[piece.from], piece.Dropped)
			for _, f := range piece.Flows {
				if err := emit(f); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// past gathers the past flows of all proxies that were asked, and what those
// that were quicker told of new ones meanwhile.
func (s *Server) past(ctx context.Context, q *question, asked int, lost map[*observer]uint64) (past, early []flow.Flow) {
	timer := time.NewTimer(answerTimeout)
	defer timer.Stop()
	done := make(map[*observer]bool)
	for len(done) < asked {
		select {
		case <-ctx.Done():
			return past, early
		case <-timer.C:
			s.log.Warn("a proxy did not tell its flows in time", "waited", answerTimeout)
			return past, early
		case piece := <-q.answers:
			lost[piece.from] = max(lost[piece.from], piece.Dropped)
			if done[piece.from] {
				early = append(early, piece.Flows...)
			} else {
				past = append(past, piece.Flows...)
			}
			if piece.Past || piece.End {
				done[piece.from] = true
			}
			if piece.Error != "" {
				s.log.Warn("a proxy does not tell its flows", "proxy", piece.from.name, "error", piece.Error)
			}
		}
	}
	return past, early
}

// Flow finds one that some proxy's ring still holds.
func (s *Server) Flow(ctx context.Context, id flow.ID) (flow.Flow, bool) {
	q, asked, err := s.proxies.ask(stream.Query{Kind: stream.QueryFlow, FlowID: id})
	if err != nil {
		s.log.Warn("a flow cannot be looked for", "error", err)
		return flow.Flow{}, false
	}
	defer s.proxies.withdraw(q)
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, fmt.Errorf("no answer within %s", answerTimeout))
	defer cancel()
	for ended := 0; ended < asked; {
		select {
		case <-ctx.Done():
			return flow.Flow{}, false
		case piece := <-q.answers:
			if at := slices.IndexFunc(piece.Flows, func(f flow.Flow) bool { return f.ID == id }); at >= 0 {
				return piece.Flows[at], true
			}
			if piece.End {
				ended++
			}
		}
	}
	return flow.Flow{}, false
}

// Proxies lists the names of the proxies that answer questions, sorted.
func (s *Server) Proxies() []string {
	s.proxies.mu.Lock()
	defer s.proxies.mu.Unlock()
	names := make([]string, 0, len(s.proxies.connected))
	for o := range s.proxies.connected {
		names = append(names, o.name)
	}
	slices.SortFunc(names, cmp.Compare)
	return names
}
