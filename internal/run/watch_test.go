package run

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/report"
	"sluice.dev/sluice/internal/sandbox"
)

// denials is a summary of so many.
func denials(n uint64) report.Summary {
	s := report.Summary{Counts: report.Counts{Denied: n}}
	if n > 0 {
		s.Entries = []report.Entry{{Outcome: report.Denied, Count: n, Last: record.Record{Dialled: "www.example.com", Port: 443, Verdict: record.Denied, Reason: refusal.NoRule}}}
	}
	return s
}

func TestTheCommandsOwnStatusWins(t *testing.T) {
	gone := errors.New("the proxy ended first")
	for name, c := range map[string]struct {
		config  Config
		outcome outcome
		want    int
		fails   bool
	}{
		"nothing denied":                {Config{FailOnDenied: true}, outcome{}, 0, false},
		"denied":                        {Config{FailOnDenied: true}, outcome{summary: denials(2)}, ExitDenied, false},
		"denied, and nobody minds":      {Config{}, outcome{summary: denials(2)}, 0, false},
		"denied, and the command fails": {Config{FailOnDenied: true}, outcome{exit: 7, summary: denials(2)}, 7, false},
		"not reached alone":             {Config{FailOnDenied: true}, outcome{summary: report.Summary{Counts: report.Counts{NotReached: 1, Audited: 1}}}, 0, false},
		"the report is not written":     {Config{Report: "/dev/full"}, outcome{}, ExitFailed, true},
		"nor is it, and it fails":       {Config{Report: "/dev/full"}, outcome{exit: 7}, 7, false},
		"the proxy did not say":         {Config{FailOnDenied: true}, outcome{unknown: gone}, ExitFailed, true},
		"it did not, and nobody minds":  {Config{}, outcome{unknown: gone}, 0, false},
	} {
		var said strings.Builder
		c.config.Stderr = &said
		w, err := newWatch(c.config)
		if err != nil {
			t.Fatal(err)
		}
		code, err := w.finish(c.config, c.outcome)
		if code != c.want || (err != nil) != c.fails {
			t.Errorf("%s: status %d, %v; want %d", name, code, err, c.want)
		}
		if c.outcome.unknown != nil && err == nil && !strings.Contains(said.String(), "the proxy ended first") {
			t.Errorf("%s: it says %q", name, said.String())
		}
	}
}

func TestAReportHoldsEachFlowAndEndsWithTheSums(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report")
	var said strings.Builder
	c := Config{Stderr: &said, Report: path, Verbose: true, Quiet: true, Command: []string{"curl"}}
	w, err := newWatch(c)
	if err != nil {
		t.Fatal(err)
	}
	if hidden := w.hidden(); len(hidden) != 1 || hidden[0] != path {
		t.Errorf("hidden from the command: %v", hidden)
	}
	w.start(c, "curl/1", sandbox.Enforcement{Level: sandbox.LevelSandbox})
	w.tell(&denials(1).Entries[0].Last)
	if code, err := w.finish(c, outcome{exit: 35, summary: denials(1), dropped: 2}); code != 35 || err != nil {
		t.Errorf("status %d, %v", code, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for line := range strings.Lines(string(text)) {
		var l struct {
			Format                int
			Kind                  string
			Exit, Denied, Dropped int
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.Format != report.Format {
			t.Errorf("%s: %v", line, err)
		}
		kinds = append(kinds, l.Kind)
		if l.Kind == "end" && (l.Exit != 35 || l.Denied != 1 || l.Dropped != 2) {
			t.Errorf("it ends with %s", line)
		}
	}
	if strings.Join(kinds, " ") != "start flow end" {
		t.Errorf("its lines are %v", kinds)
	}
	if want := "sluice: denied www.example.com:443 (No rule allows this destination on this port.)\n"; said.String() != want {
		t.Errorf("as it happens it says %q, and quietly after it nothing; want %q", said.String(), want)
	}
}

func TestAReportWhoseProxyIsGoneHasNoEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report")
	c := Config{Stderr: new(strings.Builder), Report: path}
	w, err := newWatch(c)
	if err != nil {
		t.Fatal(err)
	}
	w.start(c, "curl/1", sandbox.Enforcement{Level: sandbox.LevelSandbox})
	if code, err := w.finish(c, outcome{unknown: errors.New("gone")}); code != ExitFailed || err == nil {
		t.Errorf("status %d, %v", code, err)
	}
	if text, err := os.ReadFile(path); err != nil || strings.Contains(string(text), `"end"`) {
		t.Errorf("it holds %s, %v", text, err)
	}
}
