package rules_test

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/rules"
)

// sourced is the line of a host: what it is for, the day, and where it was read.
var sourced = regexp.MustCompile(`^ +- (\S+) # (?:[^;]+; )(\d{4}-\d{2}-\d{2}) (https://\S+)$`)

func TestAPresetNamesExactHostsEachWithItsSourceAndItsDay(t *testing.T) {
	want := []string{"cargo", "containers", "debian", "github", "go", "maven", "model-apis", "npm", "pypi"}
	if got := rules.Presets(); !slices.Equal(got, want) {
		t.Errorf("the presets are %q, want %q", got, want)
	}
	for _, preset := range rules.Presets() {
		t.Run(preset, func(t *testing.T) {
			file, err := rules.Preset(preset)
			if err != nil {
				t.Fatal(err)
			}
			objects, err := api.Decode(preset+".yaml", bytes.NewReader(file))
			var hosts []string
			for i := range objects {
				o := &objects[i]
				spec, ok := o.Spec.(*v1alpha1.EgressPolicySpec)
				if !ok || !strings.HasPrefix(o.Metadata.Name, "preset-"+preset) || o.Metadata.Namespace != "" {
					t.Fatalf("%s %s/%s is not an EgressPolicy of the preset for every namespace", o.Kind, o.Metadata.Namespace, o.Metadata.Name)
				}
				if len(spec.To.CIDRs)+len(spec.PrivateAnswers) > 0 {
					t.Errorf("%s opens more than names of the public internet", o.Metadata.Name)
				}
				hosts = append(hosts, spec.To.Hosts...)
				o.Metadata.Namespace = "default"
			}
			if err == nil {
				err = api.ValidateAll(objects)
			}
			if err != nil {
				t.Fatal(err)
			}
			var documented []string
			for line := range strings.Lines(string(file)) {
				if strings.HasPrefix(strings.TrimSpace(line), "- {") || !strings.HasPrefix(strings.TrimSpace(line), "- ") {
					continue
				}
				m := sourced.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
				if m == nil {
					t.Errorf("the line names no source and no day: %s", line)
					continue
				}
				if _, err := time.Parse(time.DateOnly, m[2]); err != nil {
					t.Errorf("%s: %v", m[1], err)
				}
				documented = append(documented, m[1])
			}
			if !slices.Equal(hosts, documented) || len(hosts) == 0 {
				t.Errorf("the hosts are %q, and of %q the source is given", hosts, documented)
			}
			for _, host := range hosts {
				if _, err := names.Parse(host); err != nil || strings.ContainsAny(host, "*:/") {
					t.Errorf("%s is not an exact name", host)
				}
			}
		})
	}
}

func TestAPresetThatIsNotThereIsAnsweredWithThoseThatAre(t *testing.T) {
	for _, name := range []string{"", "npn", "../go", "rules.go", "NPM"} {
		if _, err := rules.Preset(name); err == nil || !strings.Contains(err.Error(), "there are cargo, containers,") {
			t.Errorf("--preset %q: %v", name, err)
		}
	}
}
