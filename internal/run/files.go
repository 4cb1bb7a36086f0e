package run

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sluice.dev/sluice/internal/hidden"
	"sluice.dev/sluice/internal/report"
	"sluice.dev/sluice/internal/sandbox"
	"sluice.dev/sluice/rules"
)

// planFiles says which files the command sees. One whose own program is hidden is not
// started: "not found" would be no help.
func (c *Config) planFiles() (*hidden.Plan, error) {
	plan, err := hidden.Make(hidden.Config{
		Wishes: c.Files, List: rules.HiddenFiles(), Homes: c.Homes, Getenv: c.getenv, Workdir: c.workdir(), Masked: c.Mask, Given: c.given(),
	})
	if err != nil {
		return nil, err
	}
	program, err := exec.LookPath(c.Command[0])
	if err == nil {
		program, err = filepath.Abs(program)
	}
	if err != nil || c.getenv("PATH") != os.Getenv("PATH") || c.Dir != "" {
		return plan, nil // the start says what is wrong with it
	}
	real, err := filepath.EvalSymlinks(program)
	if err != nil {
		return plan, nil
	}
	for _, path := range []string{program, real} {
		if !plan.Sees(path) {
			return nil, fmt.Errorf("the command's own program %s is hidden from it: show it with --show %s, or with its folder where it needs what is beside it", path, path)
		}
	}
	return plan, nil
}

// getenv is the command's environment.
func (c *Config) getenv(name string) string {
	value := ""
	for _, variable := range c.Env { // the last counts
		if text, found := strings.CutPrefix(variable, name+"="); found {
			value = text
		}
	}
	return value
}

// tellOpened tells which hidden files the command opened, each once.
func (w *watch) tellOpened(opened []sandbox.Opened) {
	for _, o := range opened {
		what, instead := w.hides.Reason(o.Path)
		line := report.Hidden{Format: report.Format, Kind: "hidden", Time: o.Time, Path: o.Path, What: what, Instead: instead}
		w.opened = append(w.opened, line)
		if w.verbose {
			io.WriteString(w.stderr, report.HiddenLine(&line)) // nobody may listen
		}
		w.write(line)
	}
}
