//go:build !race

package http2_test

import "testing"

// A steady request allocates nothing, from the client's frames to the server's and back. (The
// race detector allocates for itself.)
func TestASteadyRequestAllocatesNothing(t *testing.T) {
	one := steady(t)
	for range 200 {
		one()
	}
	if n := testing.AllocsPerRun(1000, one); n > 0.1 {
		t.Errorf("%v allocations for each request", n)
	}
}
