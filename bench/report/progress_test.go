package report

import (
	"strings"
	"testing"
)

func TestProgressNamesEachSectionOnceWhereNobodySitsBefore(t *testing.T) {
	var said strings.Builder
	p := Progress{to: &said, section: new(string)}
	for _, text := range []string{"egress: starting", "egress: round 1", "visible: 1 of 2", "visible: 2 of 2"} {
		p.Say("%s", text)
		p.Clear()
	}
	if want := "measuring: egress\nmeasuring: visible\n"; said.String() != want {
		t.Errorf("said %q, want %q", said.String(), want)
	}
	Progress{}.Say("nothing: %d", 1) // is said by the zero value
}

func TestProgressIsOneLineOnATerminal(t *testing.T) {
	var said strings.Builder
	p := Progress{to: &said, terminal: true}
	p.Say("egress: round %d", 1)
	p.Clear()
	if want := "\r\x1b[Kegress: round 1\r\x1b[K"; said.String() != want {
		t.Errorf("said %q, want %q", said.String(), want)
	}
}
