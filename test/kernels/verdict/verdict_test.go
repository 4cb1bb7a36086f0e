package verdict

import (
	"bytes"
	"strings"
	"testing"
)

func TestARowIsReadAsItWasWritten(t *testing.T) {
	for _, want := range []Row{
		{ID: "boot", Verdict: OK, Sentence: "it boots", Outcome: "two\nlines \x1b[0m"},
		{ID: "run", Verdict: Fail, Sentence: "it runs"},
		{Last: true},
	} {
		var console bytes.Buffer
		console.WriteString("[    1.0] half a line of the kernel")
		if err := Write(&console, want); err != nil {
			t.Fatal(err)
		}
		var got []Row
		for line := range strings.Lines(strings.ReplaceAll(console.String(), "\n", "\r\n")) { // as a serial line has it
			r, ours, err := Read(line)
			if err != nil {
				t.Error(err)
			}
			if ours {
				got = append(got, r)
			}
		}
		if len(got) != 1 || got[0] != want {
			t.Errorf("read %+v, want %+v", got, want)
		}
	}
}

func TestALongOutcomeKeepsItsEndWithinTheBound(t *testing.T) {
	var console bytes.Buffer
	if err := Write(&console, Row{ID: "x", Verdict: Fail, Outcome: strings.Repeat("\x01", 10*MaxOutcome) + "the end"}); err != nil {
		t.Fatal(err)
	}
	if console.Len() > MaxRow {
		t.Errorf("the line has %d bytes, more than %d", console.Len(), MaxRow)
	}
	r, _, err := Read(strings.TrimSpace(console.String()))
	if err != nil || !strings.HasSuffix(r.Outcome, "the end") || !strings.HasPrefix(r.Outcome, "…") {
		t.Errorf("read %.40q, %v", r.Outcome, err)
	}
}

func TestALineThatIsNoRowIsNotTakenForOne(t *testing.T) {
	for _, line := range []string{"", "[    0.1] kernels: loaded", `{"id":"boot","verdict":"ok"}`} {
		if r, ours, err := Read(line); ours || err != nil {
			t.Errorf("%q: %+v, %v", line, r, err)
		}
	}
	for _, line := range []string{marker, marker + "{", marker + `{"id":"boot","verdict":"good"}`, marker + `{"verdict":"ok"}`} {
		if _, ours, err := Read(line); !ours || err == nil {
			t.Errorf("%q: %t, %v; want an error", line, ours, err)
		}
	}
}
