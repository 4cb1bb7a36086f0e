package gate

import (
	"context"
	"testing"
)

func TestWhatIsDoneForAConnectionEndsWithIt(t *testing.T) {
	type key struct{}
	l := &life{Context: context.WithValue(t.Context(), key{}, "v")}
	if l.Value(key{}) != "v" {
		t.Error("it lost the values of what it came from")
	}
	child, cancel := context.WithCancel(l)
	defer cancel()
	ran, never := make(chan bool, 1), make(chan bool, 1)
	context.AfterFunc(l, func() { ran <- true })
	stop := context.AfterFunc(l, func() { never <- true })
	if l.Err() != nil || !stop() || stop() {
		t.Error("it has ended before its time, or what was stopped was not, or twice")
	}
	done := l.Done()
	l.end()
	l.end()
	<-done
	<-ran
	<-child.Done()
	if l.Err() != context.Canceled || child.Err() != context.Canceled || context.Cause(l) != context.Canceled || len(never) != 0 {
		t.Errorf("it ended with %v and %v", l.Err(), child.Err())
	}
	late := make(chan bool)
	if stop := l.AfterFunc(func() { close(late) }); stop() {
		t.Error("what began too late was stopped")
	}
	<-late
	unasked := &life{Context: t.Context()}
	unasked.end()
	<-unasked.Done()
}
