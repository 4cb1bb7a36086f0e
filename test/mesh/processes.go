package mesh

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Process is one process that belongs to a place.
type Process struct {
	PID  int
	Name string // of the program, with the role: "sluice-proxy", "sluice run", "sluice (init)", "bookinfo details"
}

// Processes lists the live processes that run with the place's runtime folder. It
// takes root to see those that made themselves undumpable.
func (p *Place) Processes(t testing.TB) []Process {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var found []Process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		environ, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "environ"))
		if err != nil || !bytes.Contains(environ, []byte("SLUICE_RUNTIME="+p.Runtime+"\x00")) {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		if err != nil || len(cmdline) == 0 {
			continue // it is ending
		}
		found = append(found, Process{PID: pid, Name: nameOf(strings.Split(string(cmdline), "\x00"))})
	}
	return found
}

func nameOf(argv []string) string {
	name := filepath.Base(argv[0])
	if len(argv) > 1 && (name == "sluice" || name == "bookinfo") {
		name += " " + argv[1]
	}
	return name
}

// Machine is what a run must leave as it found it.
type Machine struct {
	Namespaces int // network namespaces in which a process lives
	Mounts     int // of this process
}

// LookAtMachine counts.
func LookAtMachine(t testing.TB) Machine {
	t.Helper()
	var m Machine
	seen := make(map[string]bool)
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil {
			seen[target] = true
		}
	}
	m.Namespaces = len(seen)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	m.Mounts = bytes.Count(mounts, []byte("\n"))
	return m
}

// String is for failures.
func (m Machine) String() string {
	return fmt.Sprintf("%d network namespaces, %d mounts", m.Namespaces, m.Mounts)
}
