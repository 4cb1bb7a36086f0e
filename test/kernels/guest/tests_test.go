package main

import (
	"reflect"
	"testing"
)

func TestTheOutputOfTestsIsCountedByThoseAtTheTop(t *testing.T) {
	const output = `=== RUN   TestOne
--- PASS: TestOne (0.00s)
=== RUN   TestTwo
=== RUN   TestTwo/below
    two_test.go:7: wrong
--- FAIL: TestTwo (1.00s)
    --- FAIL: TestTwo/below (0.50s)
=== RUN   TestThree
    three_test.go:1: no python
--- SKIP: TestThree (0.00s)
=== RUN   TestFour
=== RUN   TestFour/waits
`
	want := tests{
		passed: 1, running: "TestFour",
		skipped: []test{{"TestThree", "    three_test.go:1: no python\n"}},
		failed:  []test{{"TestTwo", "    two_test.go:7: wrong\n"}},
	}
	if got := count(output); !reflect.DeepEqual(got, want) {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}
