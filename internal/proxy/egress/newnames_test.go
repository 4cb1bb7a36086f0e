package egress

import (
	"fmt"
	"math"
	"testing"
	"time"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/dnsserver"
	"sluice.dev/sluice/internal/proxy/resolve"
)

// under is the verdict about a name that a wildcard of a rule allows.
func under(t *testing.T, id string, perMinute int) *policy.Verdict {
	t.Helper()
	wildcard, err := names.ParsePattern("*.example.com")
	if err != nil {
		t.Fatal(err)
	}
	exact, err := names.ParsePattern("www.example.com")
	if err != nil {
		t.Fatal(err)
	}
	rule := &policy.Rule{ID: id, Hosts: []names.Pattern{wildcard, exact}, MaxNewNames: perMinute}
	return &policy.Verdict{Rule: rule, Name: names.MustParse("x.example.com")}
}

func TestTheLimitOfARuleStaysWhatItIsUntilTheRuleSaysAnother(t *testing.T) {
	now := time.Now()
	n := newNames{now: func() time.Time { return now }, all: resolve.NewLimit(100, 1000)}
	if n.of(under(t, "a", 0)) != n.all {
		t.Error("a rule without a bound of its own has not the workload's")
	}
	a := n.of(under(t, "a", 10))
	if a == nil || a == n.all || n.of(under(t, "a", 10)) != a || n.of(under(t, "a", 20)) != a || n.of(under(t, "b", 10)) == a {
		t.Error("the limit of a rule is not its own, or not the same one")
	}
	spelled := under(t, "a", 10)
	spelled.Name = names.MustParse("www.example.com")
	if n.of(spelled) != nil {
		t.Error("a name that the rule spells out is limited")
	}
}

func TestLimitsThatSayNoMoreThanNewOnesAreForgotten(t *testing.T) {
	now := time.Now()
	n := newNames{now: func() time.Time { return now }, all: resolve.NewLimit(100, 1000)}
	for i := range 10 * manyLimits {
		n.of(under(t, fmt.Sprint(i), 10))
	}
	if len(n.byRule) > manyLimits {
		t.Errorf("%d are kept", len(n.byRule))
	}
}

// The figures of the limits page and the guide are those of the constants.
func TestWhatAWildcardCarriesOutByNames(t *testing.T) {
	const (
		longest = 253 // characters of a name (RFC 1035, section 2.3.4, without the root's dot)
		label   = 63
		symbols = 26 + 10 + 2 // letters of either case are one; digits, hyphen, underscore
		perByte = 8
	)
	free := longest - len(".example.com")
	dots := (free - 1) / (label + 1)
	bytes := int(float64(free-dots) * math.Log2(symbols) / perByte)
	minute := 60 * dnsserver.NewNamesPerSecond
	for what, of := range map[string]struct{ got, want int }{
		"bytes of a name":       {bytes, 156},
		"a minute":              {bytes * minute, 936_000},
		"the first minute":      {bytes * (minute + dnsserver.NewNamesBurst), 1_092_000},
		"10 new names a minute": {bytes * 10, 1_560},
	} {
		if of.got != of.want {
			t.Errorf("%s: %d bytes; the limits page and the guide say %d", what, of.got, of.want)
		}
	}
}
