package size

import (
	"os"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/bench/process"
)

func TestMemoryIsAddedUpByProgram(t *testing.T) {
	p, err := process.Start(t.Context(), process.Config{Name: "sh", CPU: process.AnyCPU, Argv: []string{"sh", "-c", "sleep 60 & sleep 60 & echo runs; read x"}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	if _, err := p.Line(time.Minute); err != nil {
		t.Fatal(err)
	}
	children := process.Children(p.PID)
	defer func() {
		for _, pid := range children {
			if found, err := os.FindProcess(pid); err == nil {
				found.Kill()
			}
		}
	}()
	all, err := readTree(p.PID)
	if err != nil {
		t.Fatal(err)
	}
	last := all[len(all)-1]
	if !strings.Contains(last.name, "all 3 processes") || last.PSS <= 0 {
		t.Errorf("the sum is %+v", last)
	}
	var sum int64
	for _, u := range all[:len(all)-1] {
		sum += u.PSS
	}
	if sum != last.PSS {
		t.Errorf("the rows come to %d, the sum is %d", sum, last.PSS)
	}
}

func TestAProcessThatIsGoneIsNoMemory(t *testing.T) {
	if _, err := read("nobody", 1<<30); err == nil {
		t.Error("it was read")
	}
	u, err := read("one of two", os.Getpid(), 1<<30)
	if err != nil || u.PSS <= 0 {
		t.Errorf("got %+v, %v", u, err)
	}
}
