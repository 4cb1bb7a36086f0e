package rulefile

import (
	"strings"
	"testing"

	"sluice.dev/sluice/internal/wire"
)

func TestRulesThatAreWrongNameTheRule(t *testing.T) {
	for _, allow := range []string{"cnn..com", "a.example:0", "*.*"} {
		if _, err := (Rules{Allow: []string{allow}}).Compile(wire.Workload{}, new(strings.Builder)); err == nil || !strings.Contains(err.Error(), allow) {
			t.Errorf("--allow %s: %v", allow, err)
		}
	}
	if _, err := (Rules{Files: []string{"/no/such/rules.yaml"}}).Compile(wire.Workload{}, new(strings.Builder)); err == nil || !strings.Contains(err.Error(), "/no/such/rules.yaml") {
		t.Errorf("a file that is not there: %v", err)
	}
}
