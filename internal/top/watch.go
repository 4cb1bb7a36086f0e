package top

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/paths"
	"sluice.dev/sluice/internal/pause"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/tail"
)

// Client is what is asked of a server.
type Client interface {
	Sluice(ctx context.Context, path string, query url.Values, into any) error
	Stream(ctx context.Context, path string, query url.Values, accepted func(), each func(line []byte) error) error
}

// Watch keeps a State in step with a server.
type Watch struct {
	client   Client
	workload string // "": every one
	state    *State

	mu   sync.Mutex
	seen *record.Seen // nil until it is known which flows were there before
}

// NewWatch returns one that has not asked yet.
func NewWatch(client Client, workload string) *Watch {
	return &Watch{client: client, workload: workload, state: NewState(time.Now)}
}

// State is what the server says.
func (w *Watch) State() *State { return w.state }

// askEvery is how often the server is asked who is there, and after which time it is followed
// again where it went away.
const askEvery = 2 * time.Second

// missed is how many of the last flows are asked for again with each beginning, for those that
// closed after the one before ended, or after the first question.
const missed = 1000

// Run asks and follows until ctx ends.
func (w *Watch) Run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() {
		for pause.For(ctx, askEvery) == nil {
			_ = w.Ask(ctx) // it is shown
		}
	})
	running.Go(func() {
		for {
			w.follow(ctx)
			if pause.For(ctx, askEvery) != nil {
				return
			}
		}
	})
	running.Wait()
}

// begin notes which flows were there before, the first time: they are not counted. What closes
// from then on is counted, however late it is followed.
func (w *Watch) begin(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen != nil {
		return nil
	}
	seen := new(record.Seen)
	err := w.client.Stream(ctx, inspect.FlowsPath, w.query(inspect.MaxFlows), func() {}, func(line []byte) error {
		f, err := readFlow(line)
		if err == nil {
			seen.Fresh(f.ID)
		}
		return err
	})
	if err == nil {
		w.seen = seen
	}
	return err
}

func (w *Watch) query(last int) url.Values {
	query := url.Values{"n": {strconv.Itoa(last)}}
	if w.workload != "" {
		query.Set("workload", w.workload)
	}
	return query
}

func readFlow(line []byte) (*record.Record, error) {
	f := new(record.Record)
	if err := json.Unmarshal(line, f); err != nil {
		return nil, fmt.Errorf("read a flow: %w", err)
	}
	return f, nil
}

// Ask asks once who is there.
func (w *Watch) Ask(ctx context.Context) error {
	_ = w.begin(ctx) // before anything is shown; where it fails follow tries it again, and says why
	status := new(inspect.Status)
	err := w.client.Sluice(ctx, inspect.StatusPath, nil, status)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		w.state.Failed(err)
	default:
		w.state.Answered(status)
	}
	return err
}

// follow counts each flow that closes until the server goes away.
func (w *Watch) follow(ctx context.Context) {
	err := w.begin(ctx)
	if err == nil {
		query := w.query(missed)
		query.Set("follow", "1")
		err = w.client.Stream(ctx, inspect.FlowsPath, query, func() { w.state.Followed(nil) }, func(line []byte) error {
			f, err := readFlow(line)
			if err != nil {
				return err
			}
			w.mu.Lock()
			fresh := w.seen.Fresh(f.ID)
			w.mu.Unlock()
			if fresh {
				w.state.Add(f)
			}
			return nil
		})
	}
	if err != nil && ctx.Err() == nil {
		w.state.Followed(err)
	}
}

// Commands asks sluice itself, in the words of its commands.
type Commands struct {
	Server string // as --server
}

// maxSaid bounds what is shown of an answer, in bytes.
const maxSaid = 256 << 10

// Why implements Opener.
func (c *Commands) Why(ctx context.Context, id record.ID) (string, error) {
	return c.run(ctx, 3, "why", id.String()) // 3: it was denied
}

// Rule implements Opener.
func (c *Commands) Rule(ctx context.Context, rule string) (string, error) {
	if strings.HasPrefix(rule, "-") {
		return "", fmt.Errorf("%q is not the name of a rule", rule) // nor a flag
	}
	return c.run(ctx, 0, "describe", rule)
}

// run runs a command of sluice; fine is a status that it may end with beside 0.
func (c *Commands) run(ctx context.Context, fine int, args ...string) (string, error) {
	path, err := paths.Program("sluice")
	if err != nil {
		return "", errors.New("sluice is neither beside sluice-top nor in PATH")
	}
	if c.Server != "" {
		args = append(args, "--server="+c.Server)
	}
	var said tail.Tail
	out := &head{most: maxSaid}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, &said, time.Second
	var ended *exec.ExitError
	if err := cmd.Run(); errors.As(err, &ended) && ended.ExitCode() == fine {
		return out.String(), nil
	} else if err != nil {
		return "", fmt.Errorf("sluice %s: %w: %s", args[0], err, said.String())
	}
	return out.String(), nil
}

// head keeps the beginning of what is written.
type head struct {
	strings.Builder
	most int
}

// Write implements io.Writer.
func (h *head) Write(b []byte) (int, error) {
	if space := h.most - h.Len(); space > 0 {
		h.Builder.Write(b[:min(len(b), space)])
	}
	return len(b), nil
}
