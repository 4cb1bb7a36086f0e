package main

import (
	"strings"
	"testing"
)

func TestAManualPageHoldsWhatTheHelpSaysAndNoRequestOfItsText(t *testing.T) {
	h := parseHelp("Runs it. And more.\n.so /etc/passwd\n\nUsage:\n  x run [flags]\n\nExamples:\n  x run -- printf '\\n'\n\nAvailable Commands:\n  why    Why\n\nFlags:\n  -n, --name string   the name\n")
	page := manualPage(h, []string{"x", "run"}, "", "1", true)
	for _, want := range []string{
		".TH X\\-RUN 1 \"\" Sluice", ".SH NAME\nx\\-run \\- Runs it\n", ".SH SYNOPSIS\n.nf\nx run [flags]\n",
		"\n\\&.so /etc/passwd\n", ".TP\n\\fB\\-n, \\-\\-name string\\fR\nthe name\n", `printf '\en'`, "x(1), x\\-run\\-why(1)",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	// What apropos shows of a command is its summary, not the begin of a long sentence.
	above := parseHelp("Does all.\n\nAvailable Commands:\n  run    Run one command\n")
	if page := manualPage(h, []string{"x", "run"}, above.summaries["run"], "1", true); !strings.Contains(page, ".SH NAME\nx\\-run \\- Run one command\n") {
		t.Errorf("the page of a command with a summary:\n%s", page)
	}
}
