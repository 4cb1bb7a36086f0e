package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/bench/egress"
	"sluice.dev/sluice/bench/inside"
	"sluice.dev/sluice/bench/load"
	"sluice.dev/sluice/bench/report"
)

// TestMain takes the roles that the sections start of this program.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && roles[os.Args[1]].run != nil {
		if err := takeRole(os.Args[1], os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// Every answer that came through the proxies is checked in here; how fast they
// came decides nothing.
func TestEgressMeasuresSluiceOnItsRealPath(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	section, err := egress.Run(t.Context(), self, egress.Options{Rounds: 1, Duration: 20 * time.Millisecond, Conns: []int{2}}, report.Progress{})
	if err != nil {
		t.Fatal(err)
	}
	if section.Skipped != "" {
		t.Skip(section.Skipped)
	}
	if len(section.Tables) != 2 {
		t.Fatalf("%d tables, want one for plain HTTP and one for TLS origination", len(section.Tables))
	}
	for _, table := range section.Tables {
		if row := table.Rows[0]; row[0] != "Sluice" || slices.Contains(row, "–") {
			t.Errorf("%s: %q", table.Columns[0], row)
		}
	}
	notes := strings.Join(section.Notes, "\n")
	if len(section.Tables[0].Rows) == 1 != strings.Contains(notes, "haproxy is not installed (apt-get install haproxy)") {
		t.Errorf("%d rows, and the notes say:\n%s", len(section.Tables[0].Rows), notes)
	}
}

// TLS would end at a wrong byte, and a second build is measured beside this one.
func TestTLSThatIsPassedThroughIsMeasuredOnItsRealPath(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	section, err := egress.RunThrough(t.Context(), self, egress.Options{Rounds: 1, Duration: time.Millisecond, Before: self}, report.Progress{})
	if err != nil {
		t.Fatal(err)
	}
	if section.Skipped != "" {
		t.Skip(section.Skipped)
	}
	if len(section.Tables) != 5 {
		t.Fatalf("%d tables, want three of bytes and two of connections", len(section.Tables))
	}
	for _, table := range section.Tables {
		for i, name := range []string{"Sluice", "Sluice before"} {
			if row := table.Rows[i]; row[0] != name || slices.Contains(row, "–") {
				t.Errorf("%s: %q", table.Columns[0], row)
			}
		}
	}
}

// What is measured in a sandbox is the same outside.
func TestEachWorkOfACommandIsDoneAndMeasured(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := inside.Work(self, strings.NewReader("\"stream\"\n\"pair\"\n\"tcp\"\n\"unix\"\n"), &out); err != nil {
		t.Fatal(err)
	}
	figures := strings.Fields(out.String())
	if len(figures) != 4 {
		t.Fatalf("figures: %q", figures)
	}
	for _, figure := range figures {
		if took, err := strconv.ParseFloat(figure, 64); err != nil || took <= 0 {
			t.Errorf("figures: %q, %v", figures, err)
		}
	}
	if err := inside.Work(self, strings.NewReader("\"speed\"\n"), &out); err == nil {
		t.Error("a work that nobody knows was done")
	}
}

func TestWhatIsInterruptedLeavesNothing(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("interrupted")
	cancel(why)
	section, err := egress.Run(ctx, self, egress.Options{Rounds: 1000, Duration: time.Hour, Conns: []int{2}}, report.Progress{})
	if section.Skipped != "" {
		t.Skip(section.Skipped)
	}
	if !errors.Is(err, why) {
		t.Errorf("it ended with %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestFlagsAreChecked(t *testing.T) {
	for _, bad := range []string{"", "0", "16,", "x", fmt.Sprint(load.MaxConns + 1)} {
		if _, err := parseCounts("-conns", bad, maxConns); err == nil {
			t.Errorf("-conns %q was taken", bad)
		}
	}
	if got, err := parseCounts("-conns", "16,64", maxConns); err != nil || !slices.Equal(got, []int{16, 64}) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := chooseSections("egress,speed"); err == nil || !strings.Contains(err.Error(), "egress, through, visible, among, rules, questions, inside, size") {
		t.Errorf("an unknown section: %v", err)
	}
	if got, err := chooseSections("size,egress"); err != nil || len(got) != 2 || got[0].name != "size" {
		t.Errorf("got %d sections, %v", len(got), err)
	}
	if got, err := chooseSections(""); err != nil || len(got) != len(sections) {
		t.Errorf("got %d sections, %v", len(got), err)
	}
	if err := takeRole("speed", nil); err == nil {
		t.Error("an unknown role was taken")
	}
	if err := takeRole(egress.RoleUpstream, nil); err == nil {
		t.Error("a role without its arguments was taken")
	}
}
