package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/bench/report"
)

// machine says on what was measured, and how busy it was before.
func machine() report.Section {
	kernel := "Linux"
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		kernel += " " + unix.ByteSliceToString(name.Release[:])
	}
	notes := []string{fmt.Sprintf("%s, %s, %d processors, %s", model(), kernel, runtime.NumCPU(), runtime.Version())}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		if load, _, ok := strings.Cut(string(text), " "); ok {
			notes = append(notes, "Load average at the start: "+load+" (above 0.5, something else is running: figures are too high, ratios of interleaved rounds hold better)")
		}
	}
	return report.Section{Name: "machine", Title: "Machine", Notes: notes}
}

// model is what the first processor calls itself.
func model() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				return strings.TrimSpace(value)
			}
		}
	}
	return runtime.GOARCH
}
