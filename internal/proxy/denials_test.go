package proxy

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/proxy/carry"
	"sluice.dev/sluice/internal/record"
)

// A client that pipelines requests which are denied gets an answer to each, and each has
// its record; beyond the pace they come late.
func TestPipelinedDenialsAreAllAnsweredAtTheirPace(t *testing.T) {
	n := newFakeNet(t)
	m := newMesh(t, n, rule(t, "www.example.com:80"))
	const requests = carry.DenialsBurst + 100
	c := m.dial("denied.example.com", 80)
	go io.WriteString(c, strings.Repeat("GET / HTTP/1.1\r\nHost: denied.example.com\r\n\r\n", requests))
	in := bufio.NewReader(c)
	for i := range requests {
		answer, err := http.ReadResponse(in, nil)
		if err != nil || answer.StatusCode != http.StatusForbidden {
			t.Fatalf("request %d: %v, %v", i, answer, err)
		}
		io.Copy(io.Discard, answer.Body)
	}
	if delayed := m.workload.kit.Denials.Delayed(); delayed > 100 {
		t.Errorf("%d answers came late, want up to 100", delayed)
	}
	c.Close()
	m.closed(requests)
	if held := len(m.ring.Recent(record.RingSize, record.Filter{Verdict: record.Denied})); held != requests {
		t.Errorf("%d records of %d denials", held, requests)
	}
}
