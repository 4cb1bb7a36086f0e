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
// requires root to see those that made themselves undumpable.
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

// namespaceKinds are the entries of /proc/PID/ns that a sandbox has for itself.
var namespaceKinds = []string{"net", "mnt", "user", "pid", "ipc", "uts", "cgroup"}

// Namespaces are those in which the place's processes live and we do not.
func (p *Place) Namespaces(t testing.TB) map[string]bool {
	t.Helper()
	found := make(map[string]bool)
	for _, process := range p.Processes(t) {
		for _, kind := range namespaceKinds {
			namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", process.PID, kind))
			if err != nil {
				continue // it has ended
			}
			if ours, err := os.Readlink("/proc/self/ns/" + kind); err == nil && ours != namespace {
				found[namespace] = true
			}
		}
	}
	return found
}

// Holders says who keeps namespaces alive: processes that live in them or hold
// them open, and mounts of ours.
func Holders(t testing.TB, namespaces map[string]bool) []string {
	t.Helper()
	var holders []string
	links, err := filepath.Glob("/proc/[0-9]*/ns/*")
	if err != nil {
		t.Fatal(err)
	}
	open, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range append(links, open...) {
		if target, err := os.Readlink(link); err == nil && namespaces[target] {
			holders = append(holders, link+" is "+target)
		}
	}
	for _, mount := range strings.Split(Mounts(t), "\n") {
		if fields := strings.Fields(mount); len(fields) > 4 && namespaces[fields[3]] {
			holders = append(holders, "mount "+fields[4])
		}
	}
	return holders
}

// Mounts are the mounts of this process, a line each.
func Mounts(t testing.TB) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return string(mounts)
}
