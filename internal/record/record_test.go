package record

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sluice.dev/sluice/internal/policy"
)

func TestAnIDIsReadAsItWasPrinted(t *testing.T) {
	for _, id := range []ID{1, 0xdeadbeef, 1<<64 - 1, NewID()} {
		s := id.String()
		if len(s) != 16 {
			t.Errorf("%d prints as %q, not 16 digits", uint64(id), s)
		}
		if back, err := ParseID(s); err != nil || back != id {
			t.Errorf("ParseID(%q) = %v, %v", s, back, err)
		}
	}
	for _, bad := range []string{"", "1", "00000000000000000", "+000000000000001", "-000000000000001", "000000000000000g", " 00000000000001 "} {
		if id, err := ParseID(bad); err == nil {
			t.Errorf("ParseID(%q) = %v, want an error", bad, id)
		}
	}
}

func TestIDsDoNotRepeat(t *testing.T) {
	seen := make(map[ID]bool)
	for range 100_000 {
		id := NewID()
		if id == 0 || seen[id] {
			t.Fatalf("NewID returned %v twice, or zero", id)
		}
		seen[id] = true
	}
}

func TestTextIsBoundedAndStaysValid(t *testing.T) {
	long := strings.Repeat("ä", MaxText)
	got := Text(long)
	if len(got) > MaxText || !utf8.ValidString(got) || !strings.HasSuffix(got, "…") {
		t.Errorf("Text cut to %d bytes: %q", len(got), got)
	}
	if short := "www.example.com"; Text(short) != short {
		t.Errorf("Text changed a short string")
	}
}

func TestAFlowIsOneLineOfText(t *testing.T) {
	start := time.Date(2026, 11, 23, 20, 35, 34, 567e6, time.UTC)
	cases := []struct {
		name string
		flow Record
		want string
	}{
		{"an allowed request", Record{
			ID: 0xab, Start: start, Duration: 12_345 * time.Microsecond, Workload: "details-v2/1", Dialled: "www.googleapis.com",
			Port: 443, Host: "www.googleapis.com:443", Verdict: Allowed, Rule: "egress-rule/default/googleapis",
			Treatment: policy.Originate, Status: 200, Sent: 512, Received: 12_345,
		}, "20:35:34.567  details-v2/1        www.googleapis.com:443              allow    originate       200       512     12.3k     12.3ms  00000000000000ab  egress-rule/default/googleapis\n"},
		{"a denied hello", Record{
			ID: 0xcd, Start: start, Duration: 90 * time.Microsecond, Workload: "details-v2/1", SNI: "www.google.com", Port: 443,
			Verdict: Denied, Reason: "no-rule", Detail: "no rule names www.google.com", Sent: 517,
		}, "20:35:34.567  details-v2/1        www.google.com:443                  deny     -                 -       517         0       90µs  00000000000000cd  no-rule: no rule names www.google.com\n"},
		{"a v6 address", Record{ID: 1, Start: start, Workload: "x/1", Dialled: "2001:db8::1", Port: 22, Verdict: Denied},
			"20:35:34.567  x/1                 [2001:db8::1]:22                    deny     -                 -         0         0         0s  0000000000000001  -\n"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := string(AppendText(nil, &c.flow)); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
	header := string(AppendHeader(nil))
	if line := string(AppendText(nil, &cases[0].flow)); strings.Index(header, "WHY") != strings.Index(line, "egress-rule/") {
		t.Errorf("headings do not stand above their columns:\n%s%s", header, line)
	}
}

func TestSeveralAttemptsAreShown(t *testing.T) {
	for want, r := range map[string]Record{
		"route-rule/default/r (3 attempts)":                  {Rule: "route-rule/default/r", Attempts: 3},
		"upstream-timeout: no answer within 1s (2 attempts)": {Reason: "upstream-timeout", Detail: "no answer within 1s", Attempts: 2},
		"route-rule/default/r":                               {Rule: "route-rule/default/r", Attempts: 1},
	} {
		if got := string(AppendWhy(nil, &r)); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestTextOfAStrangerCannotSteerATerminal(t *testing.T) {
	f := Record{Host: "a\x1b[2Jb\r\nc d\u202e\xff", Path: "/", Reason: "x\ny", Detail: "tab\there", Verdict: Denied}
	line := string(AppendText(nil, &f))
	if strings.Count(line, "\n") != 1 || strings.ContainsAny(line, "\x1b\r\t\u202e") || !utf8.ValidString(line) {
		t.Errorf("line is not clean: %q", line)
	}
	for _, want := range []string{`a\x1b[2Jb\r\nc\x20d\u202e\xff`, `x\ny: tab\there`} {
		if !strings.Contains(line, want) {
			t.Errorf("%q is not in %q", want, line)
		}
	}
}

func TestAFlowIsOneLineOfJSONAndComesBack(t *testing.T) {
	want := Record{ID: NewID(), Start: time.Now().UTC().Round(0), Duration: time.Second, Workload: "w/1", Host: "a\nb", Verdict: Allowed, Sent: 1 << 40}
	line := AppendJSON([]byte("x"), &want)
	if line[0] != 'x' || strings.Count(string(line), "\n") != 1 || line[len(line)-1] != '\n' {
		t.Errorf("not one line: %q", line)
	}
	var got Record
	if err := json.Unmarshal(line[1:], &got); err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	impossible := Record{Start: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)}
	if line := AppendJSON(nil, &impossible); !json.Valid(line) {
		t.Errorf("a flow that cannot be written gives %q", line)
	}
}

func TestSizesAndDurationsAreShort(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 9_999: "9999", 10_000: "10.0k", 999_949: "999.9k", 1_500_000: "1.5M", 1 << 62: "4.6E"} {
		if got := string(appendBytes(nil, n)); got != want {
			t.Errorf("%d bytes print as %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0s", 1500 * time.Nanosecond: "2µs", 1234567: "1.2ms", 61234 * time.Millisecond: "1m1.2s", 3*time.Hour + 500*time.Millisecond: "3h0m1s"} {
		if got := string(appendDuration(nil, d)); got != want {
			t.Errorf("%v prints as %q, want %q", d, got, want)
		}
	}
}
