package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"sluice.dev/sluice/test/kernels/verdict"
)

// lab is the machine while rows are tried.
type lab struct {
	wanted []string // beginnings of ids; none means all
	failed int
	net    *internet // nil until it is needed
}

// skipError says why a row cannot be tried here.
type skipError string

func (e skipError) Error() string { return string(e) }

// row is one thing to try; where it fails, try says how, and it skips with a skipError.
type row struct {
	id, sentence string
	limit        time.Duration
	try          func(ctx context.Context, l *lab) (outcome string, err error)
}

// runRows tries all rows in order and writes a last one.
func runRows([]string) error {
	l := &lab{wanted: wantedRows()}
	for _, r := range allRows() {
		if r.id == withModprobe && !l.wants(r.id) {
			if err := provideModprobe(); err != nil {
				return err
			}
		}
		if l.wants(r.id) {
			l.run(r)
		}
	}
	l.net.close()
	return verdict.Write(os.Stdout, verdict.Row{Last: true})
}

// wantedRows is what the kernel was started with: rows=ID,ID.
func wantedRows() []string {
	text, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil
	}
	for _, field := range strings.Fields(string(text)) {
		if list, ok := strings.CutPrefix(field, "rows="); ok && list != "" {
			return append(strings.Split(list, ","), "boot")
		}
	}
	return nil
}

func (l *lab) wants(id string) bool {
	for _, wanted := range l.wanted {
		if row, _, below := strings.Cut(wanted, "/"); below && id == row || !below && strings.HasPrefix(id, wanted) {
			return true
		}
	}
	return len(l.wanted) == 0
}

// below returns what of a row is wanted alone, as ROW/NAME; none is all of it.
func (l *lab) below(id string) (names []string) {
	for _, wanted := range l.wanted {
		row, name, below := strings.Cut(wanted, "/")
		switch {
		case below && id == row:
			names = append(names, name)
		case !below && strings.HasPrefix(id, wanted):
			return nil
		}
	}
	return names
}

func (l *lab) run(r row) {
	ctx, cancel := context.WithTimeout(context.Background(), r.limit)
	defer cancel()
	began := time.Now()
	outcome, err := r.try(ctx, l)
	said := verdict.Row{ID: r.id, Verdict: verdict.OK, Sentence: r.sentence, Outcome: outcome, Seconds: time.Since(began).Seconds()}
	var skipped skipError
	switch {
	case errors.As(err, &skipped):
		said.Verdict, said.Outcome = verdict.Skip, err.Error()
	case err != nil && ctx.Err() != nil:
		said.Verdict, said.Outcome = verdict.Fail, fmt.Sprintf("%s\nnot within %v: %v", outcome, r.limit, err)
	case err != nil:
		said.Verdict, said.Outcome = verdict.Fail, strings.TrimSpace(outcome+"\n"+err.Error())
	}
	l.say(said)
}

func (l *lab) say(said verdict.Row) {
	if said.Verdict == verdict.Fail {
		l.failed++
	}
	if err := verdict.Write(os.Stdout, said); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
	}
}
