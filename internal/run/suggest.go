package run

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/advice"
	"sluice.dev/sluice/internal/control/compile"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/report"
)

// Bounds of a suggestion: the records that differ in what a rule can tell apart, and the
// lines about those that no rule is proposed for. What comes on top is counted in the
// file.
const (
	maxSuggestRecords = 10_000
	maxSuggestLeft    = 50
)

// suggestion gathers what the command did and tried, and writes the least rules that let
// it through (--suggest).
type suggestion struct {
	file    *report.File // nil: it is closed
	who     advice.Options
	program string
	seen    map[record.Record]struct{}
	records []record.Record
	over    int // records that no room was left for
}

// newSuggestion opens the file.
func newSuggestion(c Config) (*suggestion, error) {
	file, err := report.Create("suggestion", c.Suggest)
	if err != nil {
		return nil, err
	}
	return &suggestion{
		file: file, who: advice.Options{Namespace: c.Workload.Namespace}, program: filepath.Base(c.Command[0]), seen: make(map[record.Record]struct{}),
	}, nil
}

// add notes a record, where none is there that asks for the same rule. It is called by
// one goroutine.
func (s *suggestion) add(r *record.Record) {
	kind := *r
	kind.ID, kind.Duration, kind.Sent, kind.Received, kind.Status, kind.Detail, kind.Snapshot = 0, 0, 0, 0, 0, "", ""
	kind.Start = time.Time{}
	if _, known := s.seen[kind]; known {
		return
	}
	if len(s.records) == maxSuggestRecords {
		s.over++
		return
	}
	s.seen[kind] = struct{}{}
	s.records = append(s.records, *r)
}

// write writes the rules and closes the file. dropped records were never added.
func (s *suggestion) write(dropped uint64) error {
	text, err := s.text(dropped)
	if err == nil {
		err = s.file.WriteText(text)
	}
	return errors.Join(err, s.close())
}

// close closes the file, where write did not.
func (s *suggestion) close() error {
	if s.file == nil {
		return nil
	}
	file := s.file
	s.file = nil
	return file.Close()
}

// text is the file: YAML that --rules and sluice create take, with remarks.
func (s *suggestion) text(dropped uint64) ([]byte, error) {
	needs := advice.Least(s.records, s.who, names.MustParse(compile.DefaultDomain))
	var b bytes.Buffer
	remark := func(format string, args ...any) {
		b.WriteString("# " + report.Printable(strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ")) + "\n")
	}
	// Its arguments may hold a secret, and rules are kept with the sources.
	remark("The least rules for what %s did and tried.", s.program)
	remark("Read them before you use them: what was denied is opened too.")
	for _, p := range needs.Private {
		remark("PRIVATE: %s:%d led to %s, which is not a public address; a rule below consents to it.", p.Name, p.Port, p.Address)
	}
	if n := uint64(s.over) + dropped; n > 0 {
		remark("NOT WHOLE: %d connections and requests came too fast or were too many to be looked at.", n)
	}
	for i, left := range needs.Left {
		if i == maxSuggestLeft {
			remark("No rule is proposed for %d more.", len(needs.Left)-i)
			break
		}
		remark("No rule is proposed for %s (%d times): %s", report.Destination(&left.Record), left.Count, left.Text)
	}
	if len(needs.Policies) == 0 {
		remark("No rule is needed.")
	}
	if err := api.WriteYAML(&b, needs.Policies); err != nil {
		return nil, fmt.Errorf("write the rules: %w", err)
	}
	return b.Bytes(), nil
}
