package top

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/wire"
)

// clock is one that a test turns. It is used by one goroutine.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func start() *clock { return &clock{time.Unix(1_800_000_000, 0).UTC()} }

func flow(id record.ID, workload, host string, verdict record.Verdict) *record.Record {
	f := &record.Record{ID: id, Start: time.Unix(1_800_000_000, 0).UTC(), Workload: workload, Dialled: host, Port: 443, Verdict: verdict, Sent: 100, Received: 2000}
	if verdict == record.Denied {
		f.Reason = "no-rule"
	}
	return f
}

func known(c *clock) *State {
	s := NewState(c.now)
	s.Answered(&inspect.Status{Workloads: []inspect.WorkloadStatus{
		{Workload: wire.Workload{Instance: "details-v2/1"}, Connected: true, AckedVersion: "x"}, {Workload: wire.Workload{Instance: "reviews-v1/1"}},
	}})
	return s
}

func drawn(s screen, state *State) string {
	p := state.picture()
	return strings.Join(s.draw(&p), "\n")
}

func TestRatesAreOfTheLastSecondsAndTotalsOfAll(t *testing.T) {
	c := start()
	s := known(c)
	for range 50 {
		s.Add(flow(1, "details-v2/1", "a.example.com", record.Allowed))
	}
	s.Add(flow(2, "details-v2/1", "b.example.com", record.Denied))
	s.Add(flow(3, "gone-v1/1", "b.example.com", record.Failed))
	p := s.picture()
	if w := p.workloads[0]; w.name != "details-v2/1" || w.flows != 5.1 || w.denied != 0.1 || w.out != 510 || w.in != 10200 || w.state != "current" {
		t.Errorf("%+v", w)
	}
	if len(p.workloads) != 3 || p.workloads[1].name != "gone-v1/1" || p.workloads[1].state != "gone" || p.workloads[1].failed != 0.1 || p.workloads[2].state != "not connected" {
		t.Errorf("%+v", p.workloads)
	}
	if d := p.destinations; len(d) != 2 || d[0].name != "a.example.com:443" || d[1].denied != 0.1 {
		t.Errorf("%+v", d)
	}
	if p.connected != 1 || p.joined != 2 || len(p.denials) != 1 {
		t.Errorf("%+v", p)
	}
	c.at = c.at.Add(window * time.Second)
	if p = s.picture(); p.all.flows != 0 || p.workloads[0].flows != 0 || p.workloads[0].flowsEver != 51 || p.workloads[0].deniedEver != 1 {
		t.Errorf("when they are over: %+v, %+v", p.all, p.workloads[0])
	}
}

// Whoever dials a million names fills a table, and no more.
func TestWhatIsShownIsBoundedWhateverIsDialled(t *testing.T) {
	c := start()
	s := NewState(c.now)
	for i := range 5 * MaxRows {
		s.Add(flow(record.ID(i+1), fmt.Sprintf("w-%d/1", i), fmt.Sprintf("h%d.example.com", i), record.Denied))
	}
	p := s.picture()
	if len(p.workloads) != MaxRows+1 || len(p.destinations) != MaxRows+1 || len(p.denials) != MaxDenials || p.denials[0].ID != 5*MaxRows {
		t.Errorf("%d workloads, %d destinations, %d denials", len(p.workloads), len(p.destinations), len(p.denials))
	}
	if p.destinations[0].name != record.Other || p.destinations[0].flowsEver != 4*MaxRows {
		t.Errorf("of the others: %+v", p.destinations[0])
	}
	c.at = c.at.Add(2 * quiet)
	s.Add(flow(1, "new/1", "new.example.com", record.Allowed))
	if p = s.picture(); len(p.destinations) != 1 || p.destinations[0].name != "new.example.com:443" {
		t.Errorf("what is quiet makes no way: %d", len(p.destinations))
	}
}

// A name is the first thing that a stranger sends to somebody's terminal.
func TestNoNameReachesTheTerminalAsMoreThanPrintableASCII(t *testing.T) {
	c := start()
	s := known(c)
	const evil = "\x1b]0;owned\x07\x1b[2J\r\n\u202egnp\u200b世界\x9b31m"
	f := flow(1, "details"+evil, evil, record.Denied)
	f.Host, f.Detail, f.Method, f.Path = evil, evil, "GET", evil
	s.Add(f)
	s.Failed(errors.New(evil))
	for _, colour := range []bool{false, true} {
		for tab := range tabs {
			for _, detail := range [][]string{nil, {evil, evil}} {
				text := drawn(screen{width: 200, height: 40, colour: colour, tab: tab, title: evil, detail: detail}, s)
				for _, style := range []string{bold, red, reverse, plain} {
					if colour {
						text = strings.ReplaceAll(text, style, "")
					}
				}
				if at := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') }); at >= 0 {
					t.Errorf("colour %v, %s: %q", colour, tab, text[at:])
				}
				if detail == nil && tab == denials && !strings.Contains(text, `\x1b`) {
					t.Errorf("the name is not shown at all:\n%s", text)
				}
			}
		}
	}
}

func TestNoScreenIsTooSmall(t *testing.T) {
	c := start()
	s := known(c)
	for i := range 100 {
		s.Add(flow(record.ID(i+1), fmt.Sprintf("w-%d/1", i), strings.Repeat("x", i)+".example.com", record.Denied))
	}
	for _, failed := range []bool{false, true} {
		if failed {
			s.Failed(errors.New("no answer"))
		}
		p := s.picture()
		for _, width := range []int{0, 1, 2, 3, 4, 5, 11, 12, 20, 24, 40, 60, 61, 79, 80, 81, 100, 132, 200} {
			for _, height := range []int{0, 1, 2, 3, 4, 5, 6, 10, 24, 60} {
				for tab := range tabs {
					for _, detail := range [][]string{nil, {"a", "b", "c"}} {
						sc := screen{width: width, height: height, tab: tab, selected: 70, detail: detail, from: 2}
						lines := sc.draw(&p)
						if len(lines) > height {
							t.Fatalf("%d×%d: %d lines", width, height, len(lines))
						}
						for _, line := range lines {
							if len(line) > width {
								t.Fatalf("%d×%d: a line of %d: %q", width, height, len(line), line)
							}
						}
						if height >= 10 && width >= 60 && detail == nil && !strings.Contains(strings.Join(lines, "\n"), "> ") {
							t.Fatalf("%d×%d, %s: the selected row is not there:\n%s", width, height, tab, strings.Join(lines, "\n"))
						}
					}
				}
			}
		}
	}
}

func TestWithoutColourThereIsNone(t *testing.T) {
	s := known(start())
	s.Add(flow(1, "details-v2/1", "a.example.com", record.Denied))
	if text := drawn(screen{width: 100, height: 20, tab: denials}, s); strings.Contains(text, "\x1b") || !strings.Contains(text, "> ") {
		t.Errorf("%q", text)
	}
	if text := drawn(screen{width: 100, height: 20, tab: denials, colour: true}, s); !strings.Contains(text, reverse) {
		t.Errorf("%q", text)
	}
}

// answering is an Opener that notes what it is asked.
type answering struct{ asked []string }

func (a *answering) Why(_ context.Context, id record.ID) (string, error) {
	a.asked = append(a.asked, "why "+id.String())
	return "No rule allows it.\nSecond line", nil
}

func (a *answering) Rule(_ context.Context, rule string) (string, error) {
	a.asked = append(a.asked, "rule "+rule)
	return "", errors.New("it is gone")
}

func TestWhyAndTheRuleOfADenialAreOneKeyAway(t *testing.T) {
	s, a := known(start()), new(answering)
	ruled := flow(2, "details-v2/1", "b.example.com", record.Denied)
	ruled.Rule = "egress-policy/default/b"
	s.Add(flow(1, "details-v2/1", "a.example.com", record.Denied))
	s.Add(ruled)
	m := NewModel(s, a, false)
	m.Update(tea.WindowSizeMsg{Width: 120, Height: 20})
	press := func(keys ...tea.KeyPressMsg) string {
		for _, key := range keys {
			if _, cmd := m.Update(key); cmd != nil {
				m.Update(cmd())
			}
		}
		return m.View().Content
	}
	key := func(r rune) tea.KeyPressMsg { return tea.KeyPressMsg{Code: r, Text: string(r)} }
	special := func(code rune) tea.KeyPressMsg { return tea.KeyPressMsg{Code: code} }
	if text := press(key('3')); !strings.Contains(text, "[3 Denials]") || strings.Index(text, "b.example.com") > strings.Index(text, "a.example.com") {
		t.Errorf("the denials, the newest first:\n%s", text)
	}
	if text := press(special(tea.KeyDown), special(tea.KeyEnter)); !strings.Contains(text, "Second line") || a.asked[0] != "why 0000000000000001" {
		t.Errorf("asked %q:\n%s", a.asked, text)
	}
	// Others come while one is looked at: the same stays selected.
	for i := range 5 {
		s.Add(flow(record.ID(10+i), "details-v2/1", "c.example.com", record.Denied))
	}
	m.Update(tick{})
	if press(special(tea.KeyEscape), special(tea.KeyEnter)); a.asked[1] != "why 0000000000000001" {
		t.Errorf("asked %q", a.asked)
	}
	if text := press(special(tea.KeyEscape), key('r')); !strings.Contains(text, "No rule has to do with it") || len(a.asked) != 2 {
		t.Errorf("asked %q:\n%s", a.asked, text)
	}
	if text := press(special(tea.KeyEscape), special(tea.KeyUp), key('r')); a.asked[2] != "rule egress-policy/default/b" || !strings.Contains(text, "It cannot be shown: it is gone") {
		t.Errorf("asked %q:\n%s", a.asked, text)
	}
	// An answer that comes after it was left is dropped.
	press(special(tea.KeyEscape))
	_, late := m.Update(special(tea.KeyEnter))
	press(special(tea.KeyEscape))
	m.Update(late())
	if text := m.View().Content; strings.Contains(text, "Second line") || !m.View().AltScreen {
		t.Errorf("it is shown still:\n%s", text)
	}
	for _, key := range []tea.KeyPressMsg{key('q'), {Code: 'c', Mod: tea.ModCtrl}} {
		if _, cmd := m.Update(key); cmd == nil || cmd() != tea.Quit() {
			t.Errorf("%s does not end it", key)
		}
	}
}

func FuzzFit(f *testing.F) {
	f.Add("a\x1b[2J…世\x80", 5)
	f.Fuzz(func(t *testing.T, text string, width int) {
		width %= 300
		got := fit(text, width)
		if len(got) > max(width, 0) || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q in %d is %q", text, width, got)
		}
	})
}
