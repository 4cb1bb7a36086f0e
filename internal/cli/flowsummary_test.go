package cli

import (
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/record"
)

func TestATimespanMayHaveDays(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"7d": 7 * 24 * time.Hour, "1d12h": 36 * time.Hour, "10m": 10 * time.Minute, "0d": 0, "365d": 365 * 24 * time.Hour, "-1h": -time.Hour,
		"": -1, "d": -1, "7": -1, "-7d": -1, "1d-1h": 23 * time.Hour, "7dd": -1, "366d": -1, "65535d": -1, "1.5d": -1, "7d ": -1,
	} {
		var got timespan
		err := got.Set(text)
		if want == -1 {
			if err == nil {
				t.Errorf("%q is taken for %s", text, &got)
			}
		} else if err != nil || time.Duration(got) != want {
			t.Errorf("%q: %s %v", text, &got, err)
		}
	}
}

func TestASummaryIsShownWithWhatIsMissing(t *testing.T) {
	at := time.Unix(1_800_000_000, 0).UTC()
	answer := &inspect.Summary{
		From: at, More: 2, Lost: record.Losses{Folded: 3}, ForgottenTo: at.Add(time.Hour), Missing: "1 of 2 proxies did not report in time",
		Sums: []record.Sum{
			{SumKey: record.SumKey{Namespace: "default", Workload: "details-v2", Host: "a.example.com", Port: 443, Verdict: record.Allowed, Rule: "er/one"}, Counts: record.Counts{Count: 3, Sent: 10, Received: 20}},
			{SumKey: record.SumKey{Workload: "a\x1b[31m\tb", Host: "::1", Port: 80, Verdict: record.Denied, Reason: "no-rule"}, Counts: record.Counts{Count: 1}},
			{SumKey: record.SumKey{Host: record.Other, Verdict: record.Denied}, Counts: record.Counts{Count: 1}},
		},
	}
	var b strings.Builder
	if err := writeSummary(&b, answer); err != nil {
		t.Fatal(err)
	}
	var rows []string
	for line := range strings.Lines(b.String()) {
		rows = append(rows, strings.Join(strings.Fields(line), " "))
	}
	if len(rows) != 4 || rows[0] != "FROM TO VERDICT FLOWS SENT RECEIVED WHY" || !strings.HasPrefix(rows[1], "default/details-v2 a.example.com:443 allow 3 ") || !strings.HasSuffix(rows[1], " er/one") ||
		!strings.Contains(rows[2], "[::1]:80 deny 1 ") || strings.ContainsAny(b.String(), "\x1b\t") || !strings.HasPrefix(rows[3], "(other) (other) deny 1 ") {
		t.Errorf("%q", rows)
	}
	said := strings.Join(missing(answer), "\n")
	for _, want := range []string{"2 lines more", "3 flows", "2027-01-15T09:00:00Z is forgotten", "1 of 2 proxies"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is missing in %s", want, said)
		}
	}
	if said := missing(&inspect.Summary{From: at, ForgottenTo: at}); said != nil {
		t.Errorf("of a whole one: %q", said)
	}
}
