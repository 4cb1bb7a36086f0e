package test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"sluice.dev/sluice/bench/process"
	"sluice.dev/sluice/bench/size"
	"sluice.dev/sluice/test/mesh"
)

// How long they take is measured in bench; here it is that each runs, and that nothing of
// them is left when their `sluice run` is killed.
func TestFiftySandboxesAtOnceRunAndEndWhole(t *testing.T) {
	for _, user := range mesh.Users(t) {
		t.Run(user.Name, func(t *testing.T) {
			place := mesh.NewPlace(t, user)
			argv := append([]string{filepath.Join(place.Bin, "sluice"), "run", "--allow", "www.example.com", "--"}, size.Sleeper...)
			if user.UID >= 0 {
				argv = append(mesh.AsUser(user.UID), argv...)
			}
			took, err := size.AtOnce(t.Context(), 50, argv)
			if err != nil {
				t.Error(err)
			}
			t.Logf("%+v", took)
		})
	}
}

// A sandbox adds 5.9 MB to its command where nothing else shares the pages of the program.
// The bound leaves some for other machines; before its processes gave back what only their
// start needed it was 15.8.
func TestASandboxAddsLittleMemory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may look at the memory of an init")
	}
	const bound = 9 << 20 // 6.5 MB were seen of a stripped binary, 7.5 of one that is not; 15.7 before pages were given back
	for _, user := range mesh.Users(t) {
		t.Run(user.Name, func(t *testing.T) {
			place := mesh.NewPlace(t, user)
			argv := append([]string{filepath.Join(place.Bin, "sluice"), "run", "--allow", "www.example.com", "--"}, size.Sleeper...)
			if user.UID >= 0 {
				argv = append(mesh.AsUser(user.UID), argv...)
			}
			p, err := process.Start(t.Context(), process.Config{Name: "sluice run", CPU: process.AnyCPU, Argv: argv})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Stop()
			if _, err := p.Line(mesh.Patience); err != nil {
				t.Fatal(err)
			}
			processes := size.Added(p.PID)
			if len(processes) != 2 {
				t.Fatalf("it added %d processes, not itself and an init", len(processes))
			}
			for deadline := time.Now().Add(mesh.Patience); ; time.Sleep(50 * time.Millisecond) {
				var sum int64
				for _, pid := range processes {
					m, err := process.ReadMemory(pid)
					if err != nil {
						t.Fatal(err)
					}
					sum += m.PSS
				}
				if sum <= bound {
					return
				}
				if time.Now().After(deadline) {
					t.Fatalf("it adds %d kB, more than %d", sum>>10, bound>>10)
				}
			}
		})
	}
}
