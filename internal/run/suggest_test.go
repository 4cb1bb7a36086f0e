package run

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/rulefile"
	"sluice.dev/sluice/internal/wire"
)

// visit is the record of a TLS connection to a name.
func visit(name string) record.Record {
	return record.Record{
		ID: record.NewID(), Start: time.Now(), Direction: record.Egress, Dialled: name, Port: 443, Sniffed: policy.ClientHello, SNI: name,
		Verdict: record.Denied, Reason: refusal.NoRule,
	}
}

// suggested is the file that is written of records.
func suggested(t *testing.T, dropped uint64, records ...record.Record) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rules.yaml")
	s, err := newSuggestion(Config{Suggest: file, Command: []string{"/usr/bin/tool", "--token=hunter2"}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range records {
		s.add(&records[i])
	}
	if err := s.write(dropped); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestASuggestionIsRulesThatSluiceTakes(t *testing.T) {
	text := suggested(t, 0, visit("a.example"), visit("b.example"), visit("a.example"))
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var words bytes.Buffer
	if _, err := (rulefile.Rules{Files: []string{file}}).Compile(wire.Workload{}, &words); err != nil || words.Len() > 0 {
		t.Fatalf("%v %s\n%s", err, &words, text)
	}
	if !strings.HasPrefix(text, "# The least rules for what tool did and tried.\n") || strings.Count(text, "- a.example") != 1 || strings.Count(text, "- b.example") != 1 {
		t.Errorf("it is\n%s", text)
	}
	if strings.Contains(text, "hunter2") {
		t.Error("it holds the arguments of the command")
	}
}

func TestASuggestionSaysWhatItLeavesOpen(t *testing.T) {
	private := visit("db.example")
	private.Verdict, private.Reason, private.Upstream = record.Denied, refusal.PrivateAddress, "10.1.2.3:443"
	differing := visit("a.example")
	differing.SNI, differing.Reason = "b.example\nkind: EgressPolicy", refusal.NameMismatch
	text := suggested(t, 7, private, differing)
	for _, want := range []string{
		"# PRIVATE: db.example:443 led to 10.1.2.3,", "# NOT WHOLE: 7 connections and requests", "# No rule is proposed for a.example:443 (1 times):",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "\nkind: EgressPolicy\n---\nkind") || strings.Count(text, "kind: EgressPolicy") != 1 {
		t.Errorf("what a stranger wrote is not on a line of remarks:\n%s", text)
	}
}

func TestASuggestionOfNothingSaysSo(t *testing.T) {
	if text := suggested(t, 0); !strings.Contains(text, "# No rule is needed.\n") || strings.Contains(text, "kind:") {
		t.Errorf("it is\n%s", text)
	}
}

func TestRecordsThatDifferAreBoundedAndWhatIsTooManyIsSaid(t *testing.T) {
	s := &suggestion{seen: make(map[record.Record]struct{})}
	for i := range maxSuggestRecords + 5 {
		for range 2 {
			r := visit(fmt.Sprintf("n%d.example", i))
			s.add(&r)
		}
	}
	if len(s.records) != maxSuggestRecords || s.over != 10 {
		t.Errorf("%d are kept and %d were too many", len(s.records), s.over)
	}
	text, err := s.text(0)
	if err != nil || !bytes.Contains(text, []byte("# NOT WHOLE: 10 ")) {
		t.Errorf("%v %.200s", err, text)
	}
}
