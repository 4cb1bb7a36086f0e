package route

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func acting(a Actions) Rule { return Rule{ID: "route-rule/default/x", Actions: a} }

func TestActionsThatCannotBeDoneAreRefused(t *testing.T) {
	headers := make([]Header, MaxAppended+1)
	for i := range headers {
		headers[i] = Header{fmt.Sprint("h", i), "v"}
	}
	for want, a := range map[string]Actions{
		"redirect without path and host":  {Redirect: &Redirect{}},
		`redirect: uri "a"`:               {Redirect: &Redirect{URI: "a"}},
		"has a query":                     {Rewrite: &Rewrite{URI: "/a?b=c"}},
		`"Content-Length" is not a valid`: {Append: []Header{{"Content-Length", "1"}}},
		`"x y" is not a valid name`:       {Append: []Header{{"x y", "1"}}},
		"rewrite: authority":              {Rewrite: &Rewrite{Authority: "a b"}},
		"frames the request":              {Append: []Header{{"content-length", "0"}}},
		"at most 32 of":                   {Append: headers},
		"of together 4096 bytes":          {Append: []Header{{"a", strings.Repeat("x", MaxAppendedBytes)}}},
		"delay of 1000001 in a million":   {Delay: &Delay{Share: Whole + 1, For: 1}},
		"delay of 0s":                     {Delay: &Delay{Share: 1}},
		"delay of 1h0m0.000000001s":       {Delay: &Delay{Share: 1, For: MaxDelay + 1}},
		"abort of 1000001 in a million":   {Abort: &Abort{Share: Whole + 1, Status: 500}},
		"time-out of 1h0m0.000000001s":    {Timeout: MaxTimeout + 1},
		"-1 attempts":                     {Retries: &Retries{Attempts: -1}},
		"1 attempts of 1h0m0.000000001":   {Retries: &Retries{Attempts: 1, Each: MaxTimeout + 1}},
		"an abort with status 199":        {Abort: &Abort{Share: 1, Status: 199}},
		"an abort with status 600":        {Abort: &Abort{Share: 1, Status: 600}},
	} {
		rule := acting(a)
		if _, err := NewTable([]Rules{{Service: reviews, Rules: []Rule{rule}}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
		if err := rule.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Check says %v, want %s", err, want)
		}
	}
}

func TestAFaultMeetsItsShareOfTheRandomNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		share := Share(rapid.Uint32Range(0, uint32(Whole)).Draw(t, "share"))
		table, err := NewTable([]Rules{{Service: reviews, Rules: []Rule{acting(Actions{
			Delay: &Delay{Share: share, For: time.Second}, Abort: &Abort{Share: share, Status: 418},
		})}}})
		if err != nil {
			t.Fatal(err)
		}
		plan := table.Plan(reviews, Request{})
		base := rapid.Uint64Range(0, 1<<40).Draw(t, "base") * uint64(Whole)
		for _, at := range []uint64{0, uint64(share) - 1, uint64(share), uint64(Whole) - 1} {
			if at >= uint64(Whole) {
				continue
			}
			met := at < uint64(share)
			if got := plan.Delayed(base + at); (got == time.Second) != met || got != 0 && !met {
				t.Fatalf("share %d at %d: delayed by %v", share, at, got)
			}
			if got := plan.Aborted(base + at); (got == 418) != met {
				t.Fatalf("share %d at %d: aborted with %d", share, at, got)
			}
		}
	})
}

func TestAPlanWithoutActionsDoesNothing(t *testing.T) {
	table := newTable(t, Rules{Service: reviews, Rules: []Rule{{ID: "r"}}})
	for _, plan := range []Plan{table.Plan(reviews, Request{}), table.Plan(details, Request{})} {
		uri, cut := plan.Rewritten("/a")
		if plan.Does() != nil || plan.Delayed(0) != 0 || plan.Aborted(0) != 0 || uri != "" || cut != 0 {
			t.Errorf("%+v acts", plan)
		}
	}
}

func TestTheInstructionsOfExpressionsAreCounted(t *testing.T) {
	one, err := RegexSize("a")
	if err != nil || one < 1 {
		t.Fatalf("%d, %v", one, err)
	}
	m := Match{Headers: map[string]StringMatch{"a": {Regex: "a"}, "b": {Regex: "a"}, "c": {Exact: "a"}}, URI: &StringMatch{Regex: "a"}}
	if sum, err := m.RegexSize(); err != nil || sum != 3*one {
		t.Errorf("%d of %d, %v", sum, one, err)
	}
	rule := Rule{ID: "r", Match: Match{URI: &StringMatch{Regex: "a{1000}b{1000}c{1000}"}}}
	if err := rule.Check(); err == nil || !strings.Contains(err.Error(), "instructions: at most 2000") {
		t.Errorf("%v", err)
	}
}
