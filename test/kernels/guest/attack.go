package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"sluice.dev/sluice/test/kernels/verdict"
)

// attackRows are the table of attempts to get out of a sandbox, as whom it knows.
func attackRows() []row {
	var rows []row
	for _, as := range []string{"root", "user", "run-as", "su"} {
		id := "attack-" + as
		rows = append(rows, row{id, "no attempt of the table gets out, and what is allowed works", long, attack(id, as)})
	}
	return rows
}

// mostSlow is how many attempts are named for how long they took.
const mostSlow = 5

// pace passes lines on and notes how long each was waited for.
type pace struct {
	to    io.Writer
	now   func() time.Time
	last  time.Time
	lines []paced
	part  []byte
}

type paced struct {
	line string
	took time.Duration
}

// Write implements io.Writer.
func (p *pace) Write(text []byte) (int, error) {
	p.part = append(p.part, text...)
	for {
		line, rest, whole := bytes.Cut(p.part, []byte("\n"))
		if !whole {
			return p.to.Write(text)
		}
		now := p.now()
		p.lines, p.part, p.last = append(p.lines, paced{string(line), now.Sub(p.last)}), rest, now
	}
}

// slowest names the attempts that took longest.
func (p *pace) slowest() string {
	slices.SortStableFunc(p.lines, func(a, b paced) int { return cmp.Compare(b.took, a.took) })
	var names []string
	for _, l := range p.lines[:min(len(p.lines), mostSlow)] {
		_, rest, _ := strings.Cut(strings.TrimSpace(l.line), " ")
		name, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		names = append(names, fmt.Sprintf("%s %.1f s", name, l.took.Seconds()))
	}
	return strings.Join(names, ", ")
}

// attack makes the attempts; each that does not end as it must is a row of its own.
func attack(id, as string) func(context.Context, *lab) (string, error) {
	return func(ctx context.Context, l *lab) (string, error) {
		took := &pace{to: os.Stdout, now: time.Now, last: time.Now()}
		r, err := everybody[0].doIn(ctx, place{folder: "/tmp", copyTo: took}, "/bin/attack", append([]string{"-sluice", "/bin/sluice", "-as", as}, l.below(id)...)...)
		verdicts := make(map[string]int)
		outcome := ""
		for line := range strings.Lines(r.stdout) {
			word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			verdicts[word]++
			switch word {
			case verdict.Fail:
				name, rest, _ := strings.Cut(strings.TrimSpace(rest), " ")
				l.say(verdict.Row{ID: id + "/" + name, Verdict: verdict.Fail, Sentence: strings.TrimPrefix(rest, "— "), Outcome: r.stderr})
			case verdict.Skip:
				outcome += "\nskipped: " + strings.TrimSpace(rest)
			}
		}
		outcome = fmt.Sprintf("%d ok, %d skipped, %d failed; the slowest were %s%s", verdicts[verdict.OK], verdicts[verdict.Skip], verdicts[verdict.Fail], took.slowest(), outcome)
		switch {
		case err != nil:
			return outcome + "\n" + r.String(), err
		case verdicts[verdict.Fail] > 0:
			return outcome, errors.New("see the rows above")
		case r.code != 0 || verdicts[verdict.OK] == 0:
			return outcome + "\n" + r.String(), fmt.Errorf("exit %d", r.code)
		}
		return outcome, nil
	}
}
