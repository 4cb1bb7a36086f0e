package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

const (
	// MaxLines bounds the destinations that are named after a command, for each of
	// denied, not reached and allowed by audit only.
	MaxLines = 20
	// maxWord bounds a name or a sentence in such a line, in bytes.
	maxWord = 300
)

// Advisor says in a few words what to do about a record that was denied, or that
// passed by audit alone; "" where there is nothing to say.
type Advisor func(r *record.Record) string

// verbs are what stands before a destination.
var verbs = [...]string{
	Undecided: "ended before a decision", Allowed: "allowed", Audited: "allowed by audit only", Denied: "denied",
	NotReached: "not reached", ClientLeft: "broken off by the command",
}

// told are the outcomes that are named after a command.
var told = []struct {
	outcome Outcome
	plural  string // behind "and 3 more destinations"
	advised bool
}{
	{Denied, "were denied", true},
	{NotReached, "were not reached", false},
	{Audited, "were allowed by audit only", true},
}

// Print writes after a command what did not simply pass, a line for each
// destination, in one write.
func Print(w io.Writer, s Summary, advise Advisor) error {
	var b strings.Builder
	for _, kind := range told {
		lines, left := 0, 0
		for i := range s.Entries {
			e := &s.Entries[i]
			switch {
			case e.Outcome != kind.outcome:
			case lines == MaxLines:
				left++
			default:
				lines++
				advice := ""
				if kind.advised && advise != nil {
					advice = advise(&e.Last)
				}
				writeLine(&b, e.Outcome, &e.Last, e.Count, advice)
			}
		}
		if left == 0 {
			continue
		}
		atLeast := ""
		if *s.More.of(kind.outcome) > 0 {
			atLeast = "at least "
		}
		fmt.Fprintf(&b, "sluice: and %s%d more destinations %s\n", atLeast, left, kind.plural)
	}
	if b.Len() == 0 {
		return nil
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Line is what is said of one record as it happens.
func Line(r *record.Record) string {
	var b strings.Builder
	writeLine(&b, OutcomeOf(r), r, 1, "")
	return b.String()
}

// writeLine writes one line: where to, at which address, why not, by which rule, how
// often, and what to do.
func writeLine(b *strings.Builder, outcome Outcome, r *record.Record, count uint64, advice string) {
	fmt.Fprintf(b, "sluice: %s %s", verbs[outcome], Printable(Destination(r)))
	if r.Question != "" {
		fmt.Fprintf(b, " by its %s records", Printable(r.Question))
	}
	text := ""
	if r.Reason != "" {
		text = Text(r)
	}
	refused := r.Reason == refusal.PrivateAddress || r.Reason == refusal.OutsideCIDR // of which the text names all
	if r.Upstream != "" && !refused && !strings.Contains(text, r.Upstream) {
		fmt.Fprintf(b, " at %s", Printable(r.Upstream))
	}
	if text != "" {
		fmt.Fprintf(b, " (%s)", Printable(text))
	}
	if r.Rule != "" && r.Rule != policy.AuditRule {
		fmt.Fprintf(b, ", rule %s", Printable(r.Rule))
	}
	if r.Route != "" {
		fmt.Fprintf(b, ", routed by %s", Printable(r.Route))
	}
	if count > 1 {
		fmt.Fprintf(b, ", %d times", count)
	}
	if advice != "" {
		fmt.Fprintf(b, "; %s", advice)
	}
	b.WriteByte('\n')
}

// Printable escapes what a command chose and a terminal would obey, and cuts what
// is long.
func Printable(text string) string {
	cut := ""
	if len(text) > maxWord {
		text, cut = text[:maxWord], "…"
	}
	quoted := strconv.Quote(text)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`) + cut
}
