package demo

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Ctrl-C ends the demo in under 3 s: what does not end by itself is killed.
func TestAProcessThatWillNotEndIsKilled(t *testing.T) {
	if endTime > 2500*time.Millisecond {
		t.Errorf("the demo waits %v for its processes, which leaves nothing of 3 s", endTime)
	}
	g := newGroup(t.TempDir())
	if err := g.start(process{name: "stubborn", argv: []string{"sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"}}); err != nil {
		t.Fatal(err)
	}
	if err := g.start(process{name: "willing", argv: []string{"sleep", "600"}}); err != nil {
		t.Fatal(err)
	}
	for g.said("stubborn") != "deaf" {
		time.Sleep(time.Millisecond)
	}
	g.end()
	for _, r := range g.running {
		if err := syscall.Kill(r.cmd.Process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("%s is still there: %v", r.name, err)
		}
	}
}

func TestAProcessThatEndsAtItsStartIsToldWithItsWords(t *testing.T) {
	g := newGroup(t.TempDir())
	defer g.end()
	if err := g.start(process{name: "broken", argv: []string{"sh", "-c", "echo cannot do it >&2; exit 1"}}); err != nil {
		t.Fatal(err)
	}
	err := g.waitFor(t.Context(), "broken", "/never/there")
	if err == nil || !strings.Contains(err.Error(), "broken ended at its start: cannot do it") {
		t.Errorf("said: %v", err)
	}
}

func TestWaitingEndsWithItsContext(t *testing.T) {
	g := newGroup(t.TempDir())
	defer g.end()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.waitFor(ctx, "nobody", "/never/there"); err == nil || !strings.Contains(err.Error(), "/never/there is missing") {
		t.Errorf("said: %v", err)
	}
}
