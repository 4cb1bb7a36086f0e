package main

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"sluice.dev/sluice/test/kernels/verdict"
)

// console is what a guest shows: rows between lines of the kernel, each after the return
// that a serial line adds.
func console(t *testing.T, parts ...any) io.Reader {
	t.Helper()
	var b bytes.Buffer
	for _, part := range parts {
		switch part := part.(type) {
		case string:
			b.WriteString(part)
		case verdict.Row:
			if err := verdict.Write(&b, part); err != nil {
				t.Fatal(err)
			}
		}
	}
	return strings.NewReader(strings.ReplaceAll(b.String(), "\n", "\r\n"))
}

func TestRowsAreTakenFromBetweenTheLinesOfTheKernel(t *testing.T) {
	one, two := verdict.Row{ID: "one", Verdict: verdict.OK, Sentence: "it works"}, verdict.Row{ID: "two", Verdict: verdict.Fail, Outcome: "why"}
	var got []verdict.Row
	var shown bytes.Buffer
	last, err := listen(console(t, "[ 0.1] booting", one, strings.Repeat("x", 3*verdict.MaxRow)+"\n", two, "[ 0.2] half", verdict.Row{Last: true}, "after the end"), &shown,
		func(r verdict.Row) { got = append(got, r) })
	if !last || err != nil || len(got) != 2 || got[0] != one || got[1] != two {
		t.Errorf("last %t, %v, rows %+v", last, err, got)
	}
	if text := shown.String(); !strings.Contains(text, "booting") || !strings.Contains(text, "half") || strings.Contains(text, "works") {
		t.Errorf("shown: %.200q", text)
	}
}

// A kernel that panics says no last row, and the error shows its last words.
func TestAConsoleThatEndsEarlyHasNoLastRow(t *testing.T) {
	var shown bytes.Buffer
	last, err := listen(console(t, verdict.Row{ID: "one", Verdict: verdict.OK}, "Kernel panic - not syncing"), &shown, func(verdict.Row) {})
	if last || err != nil || !strings.Contains(shown.String(), "Kernel panic") {
		t.Errorf("last %t, %v, shown %q", last, err, &shown)
	}
	if last, err := listen(console(t, "\x02kernels:{\"id\":\n"), io.Discard, func(verdict.Row) {}); last || err == nil {
		t.Errorf("a row that cannot be read: last %t, %v", last, err)
	}
}

func TestTheNewestKernelOfThePatternIsTaken(t *testing.T) {
	all := []string{
		"linux-image-6.1.0-9-cloud-arm64", "linux-image-6.1.0-10-cloud-arm64", "linux-image-6.1.0-11-cloud-arm64-dbg", "linux-image-6.1.0-12-cloud-amd64",
		"linux-image-6.12.0-13-cloud-arm64", "linux-image-6.1.0-14-arm64",
	}
	if got := newestOf(all, kernelName("arm64")); got != "linux-image-6.1.0-10-cloud-arm64" {
		t.Errorf("took %q", got)
	}
	if got := newestOf(all, kernelName("riscv64")); got != "" {
		t.Errorf("took %q", got)
	}
}

func TestATableCountsAndShowsWhatFailed(t *testing.T) {
	var out bytes.Buffer
	table := newTable(&out, "amd64", false)
	table.kernel = "6.1.0-9"
	table.row(verdict.Row{ID: "one", Verdict: verdict.OK, Sentence: "it works", Outcome: "quietly", Seconds: 61.25})
	table.row(verdict.Row{ID: "two", Verdict: verdict.Fail, Sentence: "it works", Outcome: "why\nnot"})
	table.row(verdict.Row{ID: "three", Verdict: verdict.Skip, Sentence: "it works", Outcome: "no qemu"})
	if failed := table.end(); failed != 1 {
		t.Errorf("%d failed", failed)
	}
	text := out.String()
	if strings.Contains(text, "quietly") || !strings.Contains(text, "        why\n        not\n") || !strings.Contains(text, "1 ok, 1 skipped, 1 failed, in 61 s") || !strings.Contains(text, "amd64   61.2 s  one") {
		t.Error(text)
	}
}

func TestAMachineThatLacksWhatIsNeededSkipsButFailsUnderCI(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for ci, want := range map[string]int{"": 0, "true": 1} {
		t.Setenv("CI", ci)
		if code, err := run(t.Context(), options{architectures: "amd64", cache: t.TempDir()}); code != want || err != nil {
			t.Errorf("CI=%s: exit %d, %v; want %d", ci, code, err, want)
		}
	}
	if code, err := run(t.Context(), options{architectures: "amd64,mips"}); code != 2 || err == nil || !strings.Contains(err.Error(), `"mips"`) {
		t.Errorf("a processor that there is not: exit %d, %v", code, err)
	}
}
