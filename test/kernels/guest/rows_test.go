package main

import (
	"io"
	"slices"
	"testing"
	"time"
)

func TestRowsAreWantedByTheirBeginningsOrByWhatIsBelowThem(t *testing.T) {
	l := &lab{wanted: []string{"run", "attack-root/unix-pair", "attack-root/tun", "sandbox-user/TestX", "boot"}}
	for id, want := range map[string]bool{"run-allowed-root": true, "attack-root": true, "attack-root-2": false, "attack-user": false, "sandbox-user": true, "boot": true, "level-root": false} {
		if l.wants(id) != want {
			t.Errorf("%s: %t", id, !want)
		}
	}
	if got := l.below("attack-root"); !slices.Equal(got, []string{"unix-pair", "tun"}) {
		t.Errorf("of attack-root %q", got)
	}
	if got := only(l.below("sandbox-user")); got != "^(TestX)$" {
		t.Errorf("of sandbox-user %q", got)
	}
	l.wanted = append(l.wanted, "attack")
	if got := l.below("attack-root"); got != nil {
		t.Errorf("of a row that is wanted whole %q", got)
	}
	if got := only((&lab{}).below("sandbox-user")); got != "." {
		t.Errorf("of all rows %q", got)
	}
}

func TestTheSlowestAttemptsAreNamed(t *testing.T) {
	now := time.Time{}
	p := &pace{to: io.Discard, now: func() time.Time { return now }, last: now}
	say := func(text string, took time.Duration) {
		now = now.Add(took)
		if n, err := io.WriteString(p, text); n != len(text) || err != nil {
			t.Error(n, err)
		}
	}
	say("ok   one ", time.Second)
	say("— it is refused\nok   two — ", time.Second)
	say("it is refused\nskip three — no\n", 5*time.Second)
	say("ok   four — it is refused\n", 500*time.Millisecond)
	if got := p.slowest(); got != "two 5.0 s, one 2.0 s, four 0.5 s, three 0.0 s" {
		t.Error(got)
	}
}
