// Package asking asks the user about what no rule allows (sluice run --ask): which
// question is asked and when, its answer, and the terminal that the command shares with
// the questions. The proxy of a run calls an Asker before it refuses. It never opens
// anything itself: the rules that an answer stands for are put in force by its owner.
package asking

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/addresses"
	"sluice.dev/sluice/internal/advice"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/report"
)

// Bounds of what is asked.
const (
	// AnswerTime is how long one waits for its answer, and for the turn of its question;
	// then it is denied.
	AnswerTime = 60 * time.Second
	// MaxWaiting is how many questions there may be at a time, the one that stands on the
	// terminal among them. What comes on top is denied, and may be asked about later.
	MaxWaiting = 16
	// MaxAnswers is how many answers are kept. What comes on top is denied.
	MaxAnswers = 1024
)

// Answer is what the user says.
type Answer uint8

const (
	No     Answer = iota
	Once          // for this run
	Always        // and for later ones
)

// Question is what the user is asked about.
type Question struct {
	Program     string // that asks for it
	Destination string
	Reason      string
	Warnings    []string // what a yes would open beside: private addresses, above all
}

// Config says who is asked, and what comes of it. All must be set.
type Config struct {
	Program string
	For     advice.Options
	Domain  names.Name
	// Prompt asks, one at a time, until ctx ends.
	Prompt func(ctx context.Context, q Question) (Answer, error)
	// Allow puts rules in force, and keeps them where they are for always.
	Allow func(rules []api.Object, always bool) error
	// Denied takes why a question was not asked, or its yes came to nothing. It must not
	// block.
	Denied func(text string)
}

// Asker asks. It is safe for concurrent use.
type Asker struct {
	config Config
	turn   chan struct{} // full while a question stands on the terminal

	mu      sync.Mutex
	known   map[string]*asked // by the rules that a yes puts in force
	waiting int
}

// asked is one question, and later its answer.
type asked struct {
	done chan struct{}
	yes  bool // to be read after done
}

// New returns an Asker that has asked nothing.
func New(c Config) *Asker {
	return &Asker{config: c, turn: make(chan struct{}, 1), known: make(map[string]*asked)}
}

// Ask asks about a record that is denied, and reports whether rules that allow it are in
// force now: whoever asks decides anew by them. What no rule can allow is not asked
// about, and nothing twice.
func (a *Asker) Ask(ctx context.Context, r *record.Record) bool {
	needs := advice.Least([]record.Record{*r}, a.config.For, a.config.Domain)
	if len(needs.Policies) == 0 || len(needs.Left) > 0 {
		return false
	}
	question, yes := a.question(r, &needs)
	if question == nil {
		return yes
	}
	select {
	case <-question.done:
		return question.yes
	case <-ctx.Done():
		return false
	}
}

// question returns what to wait for, or where there is none, whether rules are in force.
func (a *Asker) question(r *record.Record, needs *advice.Needs) (*asked, bool) {
	var rules strings.Builder
	if err := api.WriteYAML(&rules, needs.Policies); err != nil {
		return nil, false
	}
	key := rules.String()
	a.mu.Lock()
	defer a.mu.Unlock()
	if known := a.known[key]; known != nil {
		return known, false
	}
	switch {
	case len(a.known) >= MaxAnswers:
		a.config.Denied(fmt.Sprintf("%s was not asked about: %d questions were answered in this run", destination(r), MaxAnswers))
		return nil, false
	case a.waiting >= MaxWaiting:
		a.config.Denied(fmt.Sprintf("%s was not asked about: %d questions wait", destination(r), MaxWaiting))
		return nil, false
	}
	one := &asked{done: make(chan struct{})}
	a.known[key] = one
	a.waiting++
	go a.put(one, a.words(r, needs), needs.Policies)
	return one, false
}

// put puts one question in its turn and keeps the answer.
func (a *Asker) put(one *asked, q Question, rules []api.Object) {
	ctx, cancel := context.WithTimeout(context.Background(), AnswerTime)
	defer cancel()
	answer := No
	select {
	case a.turn <- struct{}{}:
		var err error
		if answer, err = a.config.Prompt(ctx, q); err != nil {
			answer = No
		}
		<-a.turn
	case <-ctx.Done():
		a.config.Denied(q.Destination + " was not asked about: no other question was answered in time")
	}
	if answer != No {
		if err := a.config.Allow(rules, answer == Always); err != nil {
			a.config.Denied(fmt.Sprintf("%s stays denied: %v", q.Destination, err))
			answer = No
		}
	}
	a.mu.Lock()
	a.waiting--
	one.yes = answer != No
	a.mu.Unlock()
	close(one.done)
}

// destination is what is asked for; of plain HTTP a yes opens the one path.
func destination(r *record.Record) string {
	text := report.Destination(r)
	if r.Method != "" {
		text += " (" + r.Method + " " + r.Path + ")"
	}
	return report.Printable(text)
}

// words words a question. What comes from the command is short and printable.
func (a *Asker) words(r *record.Record, needs *advice.Needs) Question {
	q := Question{
		Program: report.Printable(a.config.Program), Destination: destination(r), Reason: report.Printable(r.Reason.Text()),
	}
	for i := range needs.Rules {
		for _, cidr := range needs.Rules[i].CIDRs {
			if what, special := addresses.Special(cidr.Addr()); special {
				q.Warnings = append(q.Warnings, fmt.Sprintf("%s is not a public address (%s): a yes opens it", cidr, what))
			}
		}
		for _, cidr := range needs.Rules[i].PrivateAnswers {
			q.Warnings = append(q.Warnings, fmt.Sprintf("a yes lets the name lead to %s, which is not a public address", cidr))
		}
	}
	return q
}
