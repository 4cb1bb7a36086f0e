package report

import (
	"testing"

	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// apt asks for the SRV records of its mirror, finds none, and connects to the mirror: a
// line that says the records were not reached would be a false alarm. A client that
// cannot do without them, as of mongodb+srv, connects to no such host.
func TestAQuestionWithoutAnAnswerIsNotReportedWhereTheClientDidWithout(t *testing.T) {
	question := record.Record{Dialled: "_http._tcp.deb.debian.org", Port: 53, Question: "SRV", Verdict: record.Failed, Reason: refusal.DNSType}
	for name, c := range map[string]struct {
		then  []record.Record
		lines int // of the question
	}{
		"allowed":           {[]record.Record{{Dialled: "deb.debian.org", Port: 80, Verdict: record.Allowed}}, 0},
		"denied":            {[]record.Record{{Dialled: "deb.debian.org", Port: 80, Verdict: record.Denied, Reason: refusal.NoRule}}, 0},
		"another host":      {[]record.Record{{Dialled: "security.debian.org", Port: 80, Verdict: record.Allowed}}, 1},
		"no connection":     {nil, 1},
		"the next question": {[]record.Record{question}, 1},
	} {
		var tally Tally
		tally.Closed(&question)
		for i := range c.then {
			tally.Closed(&c.then[i])
		}
		lines := 0
		for _, e := range tally.Summary().Entries {
			if e.Last.Question != "" {
				lines++
			}
		}
		if lines != c.lines {
			t.Errorf("%s: %d lines tell of the question, want %d", name, lines, c.lines)
		}
	}
	// A question for the host itself is for what lies there, as MX does.
	var tally Tally
	tally.Closed(&record.Record{Dialled: "example.com", Port: 53, Question: "MX", Verdict: record.Failed, Reason: refusal.DNSType})
	tally.Closed(&record.Record{Dialled: "example.com", Port: 443, Verdict: record.Allowed})
	if n := len(tally.Summary().Entries); n != 1 {
		t.Errorf("%d lines tell of a question for MX, want 1", n)
	}
}
