package rules

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write what both commands say into testdata/refused.yaml")

// refused is one object that both refuse, with what each says on standard error.
type refused struct {
	Object  string `json:"object"`
	Sluice  string `json:"sluice"`  // sluice create -f rule.yaml
	Kubectl string `json:"kubectl"` // kubectl create -f rule.yaml
	// Own says that the API server speaks for itself, and why; "" where kubectl shows every
	// sentence of sluice create.
	Own string `json:"own,omitempty"`
}

const table = "testdata/refused.yaml"

var (
	sentence = regexp.MustCompile(`(?m)^\* rule\.yaml(?::\d+)?: (.*)$`)
	single   = regexp.MustCompile(`^(?:spec|metadata)[^ ]*: `)
)

func TestKubectlShowsTheSentencesOfSluiceCreate(t *testing.T) {
	c, _ := judged(t)
	data, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	var rows []refused
	if err := yaml.UnmarshalStrict(data, &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) < 60 {
		t.Errorf("%d objects", len(rows))
	}
	sluice, err := filepath.Abs(filepath.Join(binaries, "sluice"))
	if err != nil {
		t.Fatal(err)
	}
	kubectl, err := filepath.Abs(filepath.Join(c.Binaries, "kubectl"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	say := func(name string) string {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, name, "create", "-f", "rule.yaml")
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.Dir, "KUBECONFIG=" + c.Kubeconfig, "SLUICE_RUNTIME=" + dir, "SLUICE_DATA=" + dir}
		var text strings.Builder
		cmd.Stdout, cmd.Stderr = &text, &text
		err := cmd.Run()
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Errorf("%s takes it: %v %s", name, err, text.String())
		}
		return text.String()
	}
	for i := range rows {
		row := &rows[i]
		if err := os.WriteFile(filepath.Join(dir, "rule.yaml"), []byte(row.Object), 0o600); err != nil {
			t.Fatal(err)
		}
		ours, theirs := say(sluice), say(kubectl)
		if *update {
			row.Sluice, row.Kubectl = ours, theirs
		}
		if ours != row.Sluice || sorted(theirs) != sorted(row.Kubectl) {
			t.Errorf("%s\nsluice says\n%s\nkubectl says\n%s", row.Object, ours, theirs)
		}
		sentences := sentence.FindAllStringSubmatch(ours, -1)
		if len(sentences) == 0 {
			t.Errorf("%s\nno sentence in %s", row.Object, ours)
		}
		for _, one := range sentences {
			// Of a field that only has one fault kubectl shows path and text apart.
			text := single.ReplaceAllString(one[1], "")
			if row.Own == "" && !strings.Contains(theirs, text) {
				t.Errorf("%s\nkubectl lacks %q:\n%s", row.Object, text, theirs)
			}
		}
	}
	for _, kind := range []string{"er", "rr", "egp", "ms", "mc"} {
		if r := c.Kubectl(t, "", "get", kind, "-n", "default", "-o", "name"); r.Stdout != "" && !strings.Contains(r.Stdout, "/warned") {
			t.Errorf("stored: %s", r.Stdout)
		}
	}
	if *update {
		data, err := yaml.Marshal(rows)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(table, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// sorted puts the lines of a text in order: the API server lists the faults of a schema in
// another one each time.
func sorted(text string) string {
	return strings.Join(slices.Sorted(strings.SplitSeq(text, "\n")), "\n")
}
