package main

import (
	"slices"
	"testing"
	"time"
)

func TestWhatGoesOnIsSaidAtOnceAndThenEverMoreSeldom(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	now := start
	s := seldom{now: func() time.Time { return now }}
	var said []time.Duration
	for ; now.Sub(start) <= 4*time.Hour; now = now.Add(5 * time.Second) {
		if s.due() {
			said = append(said, now.Sub(start)/time.Minute)
		}
	}
	if want := []time.Duration{0, 1, 3, 7, 15, 31, 63, 123, 183}; !slices.Equal(said, want) {
		t.Errorf("said after %d minutes, want %d", said, want)
	}
}
