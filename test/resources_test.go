package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice.dev/sluice/test/mesh"
)

// glutton takes more memory than it may: the last line of what has none.
const glutton = "head -c 300M /dev/zero | tail -n 1 >/dev/null"

// The command is held to its memory and its processes, alone, as another user and in the
// mesh, and it is said that it was that. Where the machine cannot hold it, it does not start.
func TestACommandIsHeldToItsMemoryAndItsProcesses(t *testing.T) {
	eachMachinery(t, func(t *testing.T, m *machinery) {
		ways := map[string][]string{"alone": nil, "in the mesh": {"--service", "glutton"}}
		if m.User.UID < 0 && os.Geteuid() == 0 {
			ways["as another user"] = []string{"--run-as", "1000"}
		}
		for way, flags := range ways {
			t.Run(way, func(t *testing.T) {
				report := filepath.Join(filepath.Dir(m.Runtime), "report.jsonl")
				run := func(with ...string) mesh.Result {
					return m.Sluice(t, append(append(append([]string{"run", "--report", report}, flags...), with...), glutton+"; echo $?")...)
				}
				r := run("--memory", "64M", "--", "bash", "-o", "pipefail", "-c")
				if r.Code == 125 {
					if r.Stdout != "" || !strings.Contains(r.Stderr, "--memory: no cgroup with the controller memory can be made here: ") || !strings.Contains(r.Stderr, "start it") {
						t.Errorf("refused: %q, %q", r.Stdout, r.Stderr)
					}
					if why := limitRefused(t, m.Place, "--memory"); why == "" {
						t.Errorf("this machine gives --memory, and it was refused: %s", r.Stderr)
					}
					t.Skip(r.Stderr)
				}
				if r.Stdout != "137\n" || !strings.Contains(r.Stderr, "sluice: out of memory: the limit of --memory 64M was reached, and 1 process was killed for it\n") {
					t.Errorf("memory: %q, %q", r.Stdout, r.Stderr)
				}
				wantInReport(t, report, `"memoryKills":1`)
				r = m.Sluice(t, append(append([]string{"run", "--report", report}, flags...), "--pids", "5", "--", "sh", "-c", "i=0; while [ $i -lt 40 ]; do sleep 100 & i=$((i+1)); done; echo all")...)
				if r.Stdout != "" || r.Code == 0 || !strings.Contains(r.Stderr, "sluice: out of processes: the limit of --pids 5 was reached, and 1 process was not started\n") {
					t.Errorf("processes: exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
				}
				wantInReport(t, report, `"forksRefused":1`)
				if r := run("--memory", "1G", "--", "bash", "-o", "pipefail", "-c"); r.Stdout != "0\n" || strings.Contains(r.Stderr, "out of") {
					t.Errorf("with enough: %q, %q", r.Stdout, r.Stderr)
				}
			})
		}
	})
}

// limitRefused is why doctor finds that a limit cannot be held here, "" where it can.
func limitRefused(t *testing.T, place *mesh.Place, flag string) string {
	t.Helper()
	var found struct {
		Machine struct {
			Limits []struct{ Flag, Error string }
		}
	}
	if err := json.Unmarshal([]byte(place.Sluice(t, "doctor", "-o", "json").Stdout), &found); err != nil {
		t.Fatal(err)
	}
	for _, limit := range found.Machine.Limits {
		if limit.Flag == flag {
			return limit.Error
		}
	}
	t.Fatalf("doctor says nothing of %s: %+v", flag, found)
	return ""
}

func wantInReport(t *testing.T, path, want string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(content), want) {
		t.Errorf("the report has no %s: %s, %v", want, content, err)
	}
}

// What cannot be meant is refused before anything is started, and the error says how it
// is written.
func TestALimitOfTheCommandThatCannotBeMeantIsRefused(t *testing.T) {
	place := mesh.NewPlace(t, mesh.User{Name: "user", UID: -1})
	for flag, texts := range map[string][]string{
		"--memory": {"", "0", "-1G", "1X", "31M", "lots"},
		"--pids":   {"", "0", "-1", "1.5", "4194305"},
		"--cpus":   {"", "0", "-1", "0.001", "two"},
	} {
		for _, text := range texts {
			r := place.Sluice(t, "run", flag, text, "--", "echo", "started")
			if r.Code != 125 || r.Stdout != "" || !strings.Contains(r.Stderr, flag+` "`+text+`" `) {
				t.Errorf("%s %q: exit %d, %q, %q", flag, text, r.Code, r.Stdout, r.Stderr)
			}
		}
	}
}
