package run

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"sluice.dev/sluice/internal/record"
)

func TestAfterACommandEachDeniedDestinationIsToldOnce(t *testing.T) {
	denied := record.Record{Dialled: "www.example.com", Port: 443, Verdict: record.Denied, Reason: "no-rule"}
	var words strings.Builder
	summarize(&words, []record.Record{
		denied, denied,
		{Dialled: "www.googleapis.com", Port: 443, Verdict: record.Allowed},
		{Dialled: "198.51.100.7", SNI: "doh.example.net", Port: 443, Verdict: record.Denied, Reason: "name-mismatch"},
	})
	said := words.String()
	if strings.Count(said, "\n") != 2 || !strings.Contains(said, "denied www.example.com:443") || !strings.Contains(said, "2 times; allow it with --allow 'www.example.com:443'") {
		t.Errorf("it says:\n%s", said)
	}
	if !strings.Contains(said, "denied doh.example.net:443") || strings.Count(said, "--allow") != 1 {
		t.Errorf("a denial that no rule mends gets no --allow:\n%s", said)
	}
}

func TestTheWordsAfterACommandAreBounded(t *testing.T) {
	var flows []record.Record
	for port := range uint16(100) {
		flows = append(flows, record.Record{Dialled: "a.example", Port: port + 1, Verdict: record.Denied, Reason: "no-rule"})
	}
	var words strings.Builder
	summarize(&words, flows)
	if lines := strings.Count(words.String(), "\n"); lines != maxDenied+1 || !strings.Contains(words.String(), "80 more destinations") {
		t.Errorf("%d lines:\n%s", lines, words.String())
	}
}

// A command chooses names, and people paste the line into a shell.
func TestNothingThatACommandChoseIsObeyedByATerminalOrAShell(t *testing.T) {
	var words strings.Builder
	for _, name := range []string{"a.example\x1b]0;owned\a", "a.example\r\nsluice: all is well", "a'$(reboot)'", "\u202eelpmaxe.a", "a.\xff", strings.Repeat("long", 1000)} {
		summarize(&words, []record.Record{{Dialled: name, Port: 443, Verdict: record.Denied, Reason: "no-rule", Detail: name}})
		summarize(&words, []record.Record{{Dialled: "b.example", Port: 443, Verdict: record.Denied, Reason: "of the engine", Detail: name}})
	}
	said := words.String()
	if !utf8.ValidString(said) || strings.ContainsAny(said, "\x1b\a\r\u202e") || strings.Count(said, "\n") != 12 || strings.Contains(said, "--allow") {
		t.Errorf("it says:\n%q", said)
	}
	for line := range strings.Lines(said) {
		if len(line) > 1024 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}

type notFound struct{ error }

func (notFound) ExitCode() int { return 127 }

func TestTheStatusOfACommandThatDidNotStartIsAShells(t *testing.T) {
	if code := exitOf(notFound{errors.New("not found")}); code != 127 {
		t.Errorf("not found: %d", code)
	}
	if code := exitOf(errors.New("no namespaces")); code != ExitFailed {
		t.Errorf("no sandbox: %d", code)
	}
}
