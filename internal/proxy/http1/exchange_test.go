package http1_test

import (
	"runtime"
	"testing"
)

func runtimeGoexit() { runtime.Goexit() }

func TestRequestsOfOneConnectionAreForwardedOneAfterTheOther(t *testing.T) {
	f := newFixture(t, answering(hello), options{})
	c := f.client()
	for range 3 {
		c.send("GET /a?b=c HTTP/1.1\r\nHost: example.com\r\n\r\n")
		c.want(hello)
	}
	if n := f.origin.count(); n != 1 {
		t.Errorf("%d upstream connections, want 1", n)
	}
}
