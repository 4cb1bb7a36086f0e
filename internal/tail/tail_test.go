package tail

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
)

func TestTheLastWordsAreKept(t *testing.T) {
	var kept Tail
	for i := range 10_000 {
		fmt.Fprintf(&kept, "line %d\n", i)
	}
	if got := kept.String(); !strings.HasSuffix(got, "\nline 9998\nline 9999") || len(got) > Max || len(got) < Max-1 {
		t.Errorf("kept %d bytes, the last of them %q", len(got), got[len(got)-30:])
	}
	if n, err := io.WriteString(&kept, strings.Repeat("a", 3*Max)); n != 3*Max || err != nil {
		t.Errorf("wrote %d, %v", n, err)
	}
	if got := kept.String(); got != strings.Repeat("a", Max) || cap(kept.text) > 4*Max {
		t.Errorf("kept %d bytes in %d", len(got), cap(kept.text))
	}
}

func TestTwoStreamsMayWriteAtOnce(t *testing.T) {
	var kept Tail
	var writers sync.WaitGroup
	for range 2 {
		writers.Go(func() {
			for range 100 {
				io.WriteString(&kept, "x")
			}
		})
	}
	writers.Wait()
	if got := kept.String(); got != strings.Repeat("x", 200) {
		t.Errorf("kept %d bytes", len(got))
	}
}
