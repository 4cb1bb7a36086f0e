package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAProcessIsSpokenToByLinesAndEnds(t *testing.T) {
	p, err := Start(t.Context(), Config{Name: "cat", Argv: []string{"cat"}, CPU: AnyCPU})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	if err := p.Send(map[string]int{"n": 7}); err != nil {
		t.Fatal(err)
	}
	var got map[string]int
	if err := p.Receive(time.Minute, &got); err != nil || got["n"] != 7 {
		t.Fatalf("got %v, %v", got, err)
	}
	p.Stop()
	if err := unix.Kill(p.PID, 0); err != unix.ESRCH {
		t.Errorf("the process is still there: %v", err)
	}
}

func TestAProcessThatEndsTellsWhatItSaid(t *testing.T) {
	p, err := Start(t.Context(), Config{Name: "sh", Argv: []string{"sh", "-c", "echo no such door >&2; exit 3"}, CPU: AnyCPU})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	_, err = p.Line(time.Minute)
	if err == nil || !strings.Contains(err.Error(), "no such door") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v", err)
	}
}

func TestWaitingForWordsEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	p, err := Start(ctx, Config{Name: "cat", Argv: []string{"cat"}, CPU: AnyCPU})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	why := errors.New("enough")
	cancel(why)
	if _, err := p.Line(time.Minute); err != why {
		t.Errorf("got %v", err)
	}
}

func TestAPinnedProcessIsOnItsProcessorAndWeAreNot(t *testing.T) {
	_, cpu, err := CPUs()
	if err != nil {
		t.Skip(err)
	}
	// Which of our threads becomes the process's own is the runtime's choice, and
	// may be the first one: what must not change is the thread of the caller.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, after unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	p, err := Start(t.Context(), Config{Name: "cat", Argv: []string{"cat"}, CPU: cpu})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(p.PID, &set); err != nil {
		t.Fatal(err)
	}
	if set.Count() != 1 || !set.IsSet(cpu) {
		t.Errorf("it runs on %d processors, want only %d", set.Count(), cpu)
	}
	if err := unix.SchedGetaffinity(0, &after); err != nil || after != before {
		t.Errorf("our own processors changed from %v to %v, %v", before, after, err)
	}
}

func TestCPUTimeGrowsWithWork(t *testing.T) {
	p, err := Start(t.Context(), Config{Name: "sh", Argv: []string{"sh", "-c", "read x; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo 1; read x"}, CPU: AnyCPU})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	before, err := CPUTime(p.PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Send(1); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Line(time.Minute); err != nil {
		t.Fatal(err)
	}
	after, err := CPUTime(p.PID)
	if err != nil || after <= before {
		t.Errorf("from %v to %v, %v", before, after, err)
	}
	if _, err := CPUTime(1 << 30); err == nil {
		t.Error("a process that is none has a processor time")
	}
}

func TestMemoryIsReadFromTheRollup(t *testing.T) {
	got, err := parseMemory("55d0-7ffd ---p 00000000 00:00 0 [rollup]\nRss:  9000 kB\nPss:      1234 kB\nPss_Dirty: 9 kB\nPss_Anon:  34 kB\n")
	if want := (Memory{PSS: 1234 << 10, Anonymous: 34 << 10}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "Pss: 1 kB\n", "Pss: x kB\nPss_Anon: 1 kB\n"} {
		if _, err := parseMemory(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if own, err := ReadMemory(os.Getpid()); err != nil || own.PSS <= 0 {
		t.Errorf("our own: %+v, %v", own, err)
	}
}

func TestChildrenAreFoundToTheLast(t *testing.T) {
	p, err := Start(t.Context(), Config{Name: "sh", Argv: []string{"sh", "-c", "sh -c 'sleep 60 & echo $!; wait'; true"}, CPU: AnyCPU})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	line, err := p.Line(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	var grandchild int
	fmt.Sscan(string(line), &grandchild)
	defer unix.Kill(grandchild, unix.SIGKILL)
	if found := Children(p.PID); !slices.Contains(found, grandchild) {
		t.Errorf("%d is not in %v", grandchild, found)
	}
	if words := Command(p.PID); len(words) != 3 || !slices.Equal(words[:2], []string{"sh", "-c"}) {
		t.Errorf("its command is %q", words)
	}
}
