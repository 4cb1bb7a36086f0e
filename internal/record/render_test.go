package record

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/refusal"
)

func TestALineOfFlowsFitsEveryTerminalAndKeepsWhatMattersMost(t *testing.T) {
	long := Record{
		ID: 1, Start: time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC), Workload: "recommendations-v12/103", Host: strings.Repeat("a-long-label.", 8) + "example.com", Port: 443,
		Verdict: Denied, Reason: refusal.NoRule, Detail: strings.Repeat("words ", 30), Sent: 1, Received: 2, Treatment: policy.Passthrough,
	}
	short := Record{ID: 2, Start: long.Start, Workload: "a-v1/1", Host: "b.example.com", Port: 443, Verdict: Allowed, Rule: "egress-rule/default/b"}
	for width := range 300 {
		layout := Plain().Within(width)
		for _, f := range []*Record{&long, &short} {
			line := strings.TrimSuffix(string(layout.AppendText(nil, f)), "\n")
			if n := utf8.RuneCountInString(line); n > max(width, minWidth) {
				t.Fatalf("on %d characters a line has %d:\n%s", width, n, line)
			}
			for _, kept := range []string{f.ID.String(), f.Verdict.String()} {
				if !strings.Contains(line, kept) {
					t.Fatalf("on %d characters %s is missing:\n%s", width, kept, line)
				}
			}
		}
		header := string(layout.AppendHeader(nil))
		if utf8.RuneCountInString(header) > max(width, minWidth)+1 || !strings.HasSuffix(header, "WHY\n") {
			t.Fatalf("on %d characters the headings are %q", width, header)
		}
	}
	for _, c := range []struct {
		width int
		want  string
	}{
		{300, "TIME WORKLOAD DESTINATION VERDICT HOW STATUS SENT RECEIVED DURATION ID WHY"},
		{190, "TIME WORKLOAD DESTINATION VERDICT HOW STATUS SENT RECEIVED DURATION ID WHY"},
		{120, "TIME WORKLOAD DESTINATION VERDICT ID WHY"},
		{90, "TIME WORKLOAD DESTINATION VERDICT ID WHY"},
		{80, "WORKLOAD DESTINATION VERDICT ID WHY"},
		{60, "DESTINATION VERDICT ID WHY"},
		{0, "DESTINATION VERDICT ID WHY"},
	} {
		if got := strings.Join(strings.Fields(string(Plain().Within(c.width).AppendHeader(nil))), " "); got != c.want {
			t.Errorf("on %d characters the columns are %s: want %s", c.width, got, c.want)
		}
	}
	// What has room is whole, and what a file or a pipe gets is never cut.
	if line := string(Plain().Within(120).AppendText(nil, &short)); !strings.Contains(line, "b.example.com:443") || !strings.Contains(line, short.Rule) {
		t.Errorf("on 120 characters: %s", line)
	}
	if line := string(AppendText(nil, &long)); !strings.Contains(line, long.Host) || !strings.Contains(line, strings.TrimSpace(long.Detail)) {
		t.Errorf("without a terminal: %s", line)
	}
	if line := string(Plain().Within(80).AppendText(nil, &short)); line != "a-v1/1            b.example.com:443         allow    0000000000000002  egress-r…\n" {
		t.Errorf("on 80 characters: %q", line)
	}
}
