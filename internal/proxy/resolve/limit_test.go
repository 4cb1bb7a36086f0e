package resolve

import (
	"testing"
	"time"
)

// taken is how many of n names are let through at a moment.
func taken(l *Limit, at time.Time, n int) (count int) {
	for range n {
		if l.Take(at) {
			count++
		}
	}
	return count
}

func TestANameCountsAgainstTheRuleAndAgainstTheWorkload(t *testing.T) {
	start := time.Now()
	all := NewLimit(1, 25)
	first, second := all.Of(10), all.Of(60)
	if got := taken(first, start, 100); got != 10 {
		t.Errorf("%d names of a rule with 10 a minute", got)
	}
	if got := taken(second, start, 100); got != 15 {
		t.Errorf("%d names of another where the workload has 15 left", got)
	}
	if got := taken(all, start, 100); got != 0 {
		t.Errorf("%d names of a rule without a bound where the workload has none left", got)
	}
	if got := taken(first, start.Add(30*time.Second), 100); got != 5 {
		t.Errorf("%d names of 10 a minute after half a minute", got)
	}
	first.Set(20)
	if got := taken(first, start.Add(90*time.Second), 100); got != 20 {
		t.Errorf("%d names after the rule says 20 a minute, a minute later", got)
	}
	if first.Unused(start.Add(91*time.Second)) || !first.Unused(start.Add(151*time.Second)) {
		t.Error("a limit is new again before or after its minute")
	}
}

func TestANameThatTheWorkloadMayNotHaveDoesNotCountAgainstTheRule(t *testing.T) {
	start := time.Now()
	all := NewLimit(1, 1)
	rule := all.Of(3)
	if got := taken(rule, start, 100); got != 1 {
		t.Errorf("%d names where the workload has 1", got)
	}
	for i, want := range []int{1, 1, 0} { // a second brings the workload one
		if got := taken(rule, start.Add(time.Duration(i+1)*time.Second), 100); got != want {
			t.Errorf("%d names after %d s, want %d", got, i+1, want)
		}
	}
}
