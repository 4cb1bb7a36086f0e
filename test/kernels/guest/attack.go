package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

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

// attack makes the attempts; each that does not end as it must is a row of its own.
func attack(id, as string) func(context.Context, *lab) (string, error) {
	return func(ctx context.Context, l *lab) (string, error) {
		r, err := everybody[0].doIn(ctx, place{folder: "/tmp", copyTo: os.Stdout}, "/bin/attack", "-sluice", "/bin/sluice", "-as", as)
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
		outcome = fmt.Sprintf("%d ok, %d skipped, %d failed%s", verdicts[verdict.OK], verdicts[verdict.Skip], verdicts[verdict.Fail], outcome)
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
