package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"
)

var here = sources{root: "../.."}

func written(t *testing.T, write func(*bytes.Buffer, sources) error) string {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b, here); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestBoundsAreReadFromTheSource(t *testing.T) {
	page := written(t, writeLimits)
	for _, want := range []string{
		"| `RingSize` | 4,096 |",                  // a number
		"| `KeepAnswered` | 24 h |",               // a duration
		"| `MaxHello` | 64 KiB |",                 // a shift
		"| `HeaderTimeout` | 10 s |",              // a field whose comment says the default
		"| `MaxFlows` | 4,096 |",                  // a constant of another package
		"| `compileAtMost` | 20 ms |",             // one that is not exported
		"| `DefaultMaxStale` | 24 h |",            //
		"| `DefaultHandshakeTimeout` | 10 s |",    // documented by its block
		"| `MaxSocketPath` | 107 | MaxSocketPath", // with what it means
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, never := range []string{"extensionServerName", "exitInit", "offsetNumber", "tokenByte", "AlertAccessDenied"} {
		if strings.Contains(page, "`"+never+"`") {
			t.Errorf("%s bounds nothing", never)
		}
	}
}

func TestReasonsHaveTheirSentenceStatusAndAlert(t *testing.T) {
	page := written(t, writeReasons)
	for _, want := range []string{
		"| `no-rule` | No rule allows this destination on this port. | 403 | access denied (49) |",
		"| `no-server-name` | ", "unrecognized name (112)",
		"| `connect-refused` | The server refused the connection. | 502 | internal error (80) |",
		"| `resolve-failed` | No DNS server gave a usable answer. | 503 | internal error (80) |",
		"| `upstream-timeout` | The upstream did not answer in time. | 504 |",
		"| `no-healthy-upstream` | ",
		"| ClientHello of SSL 2 or SSL 3 | protocol version (70) |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestKindsAreFlattened(t *testing.T) {
	page := written(t, writeKinds)
	for _, want := range []string{"## EgressPolicy", "| `spec.to.ports[].port` | integer |", "| `spec.match.request.headers.KEY.exact` | string |", "| `status.conditions` | list of object |"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if first := regexp.MustCompile(`(?m)^## (\w+)`).FindStringSubmatch(page); first == nil || first[1] != "EgressPolicy" {
		t.Errorf("our own kinds come first, not %v", first)
	}
}

func TestHelpIsTakenApart(t *testing.T) {
	h := parseHelp("Runs it.\n\nUsage:\n  x run [flags]\n\nExamples:\n  x run -- true\n\nAvailable Commands:\n  help   Help\n  why    Why\n\nFlags:\n  -h, --help          help for x\n  -n, --name string   the name (default \"y\")\n      --quiet         no words\n\nUse \"x [command] --help\" for more.\n")
	if h.about != "Runs it." || len(h.usage) != 1 || h.usage[0] != "x run [flags]" || len(h.examples) != 1 || len(h.commands) != 2 {
		t.Errorf("%+v", h)
	}
	if len(h.flags) != 2 || h.flags[0] != (flagHelp{"-n, --name string", `the name (default "y")`}) || h.flags[1] != (flagHelp{"--quiet", "no words"}) {
		t.Errorf("flags: %+v", h.flags)
	}
}

func TestValuesAreWrittenForPeople(t *testing.T) {
	for d, want := range map[time.Duration]string{24 * time.Hour: "24 h", 30 * 24 * time.Hour: "30 d", 10 * time.Minute: "10 min", 90 * time.Second: "90 s", 250 * time.Millisecond: "250 ms", time.Nanosecond: "1ns"} {
		if got := durationText(d); got != want {
			t.Errorf("%v is written %q, want %q", d, got, want)
		}
	}
	if got := numberText(16<<10, "x", "bytes of it"); got != "16 KiB" {
		t.Error(got)
	}
	if got := numberText(1<<20, "MaxEntries", "entries"); got != "1,048,576" {
		t.Error(got)
	}
}
