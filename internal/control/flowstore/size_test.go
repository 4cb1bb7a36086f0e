package flowstore

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"sluice.dev/sluice/internal/record"
)

// A host takes at most 110 bytes, beside the flows one by one, so that a million of them and
// as many flows as are kept are within MaxUsed (a million was measured: 109 MB used, of 119).
func TestWhatAHostTakesOnDiskIsBounded(t *testing.T) {
	const hosts = 100_000
	c := &clock{time.Unix(1_800_000_000, 0)}
	path := filepath.Join(t.TempDir(), "flows.db")
	s := open(t, path, c)
	s.db.NoSync = true // of the test alone: the size is the same
	number := uint64(0)
	for n := 0; n < hosts; c.at = c.at.Add(time.Hour) {
		for b := 0; b < 10 && n < hosts; b++ { // of an hour as many as it takes, of four workloads
			var sums []record.Sum
			for range 10_000 {
				sums = append(sums, sum(c, fmt.Sprintf("details-v%d", n%4), fmt.Sprintf("%08x.some-what-long.example.com", uint32(n)*2654435761), 12345))
				n++
			}
			var flows []record.Record
			for i := range record.MaxKept {
				f := flow(c, record.ID(number<<20|uint64(i+1)), 0)
				f.Path, f.Rule, f.Detail = "/a/path/that/is/rather/long?and=query", "egress-policy/default/one", "some detail that is said to people"
				flows = append(flows, f)
			}
			number++
			add(t, s, number, flows, sums...)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	var used int
	if err := s.view(func(tx *bolt.Tx) error { used = usedOf(tx); return nil }); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rows, %d flows of %d bytes: %d MB used of %d MB", s.state.Rows, s.state.Flows, s.state.FlowBytes, used/1_000_000, info.Size()/1_000_000)
	if used > hosts*110+3*s.state.FlowBytes/2 || s.state.Rows != hosts || info.Size() > MaxFile {
		t.Errorf("%d rows and %d bytes of flows take %d bytes of %d", s.state.Rows, s.state.FlowBytes, used, info.Size())
	}
}

// Names as long as any take more than a million of them may: the file stays below its bound,
// the oldest hours are forgotten for the newest, and the summary says so.
func TestTheFileStaysBelowItsBoundHoweverLongNamesAre(t *testing.T) {
	for what, used := range map[string]int{"the oldest is forgotten in time": 4 << 20, "it is forgotten when the file may not grow": 1 << 40} {
		c := &clock{time.Unix(1_800_000_000, 0)}
		path := filepath.Join(t.TempDir(), "flows.db")
		s := open(t, path, c)
		s.db.NoSync = true
		s.limits.used, s.db.MaxSize = used, 8<<20
		began, number := c.at, uint64(0)
		for hour := range 30 {
			for range 5 {
				var sums []record.Sum
				for range 200 {
					number++
					sums = append(sums, sum(c, "details-v1", fmt.Sprintf("%x.%s.example.com", number*0x9E3779B97F4A7C15, strings.Repeat("long.", 44)), 1))
				}
				add(t, s, number, nil, sums...)
				if info, err := os.Stat(path); err != nil || info.Size() > 8<<20 {
					t.Fatalf("%s: %d bytes in hour %d, %v", what, info.Size(), hour, err)
				}
			}
			if got := summary(t, s, c.at); got.Total.Count != 1000 {
				t.Fatalf("%s: %d of hour %d are there", what, got.Total.Count, hour)
			}
			c.at = c.at.Add(time.Hour)
		}
		got := summary(t, s, began)
		if kept := got.Total.Count; kept < 5000 || kept > 29_000 || got.ForgottenTo.IsZero() || kept != 1000*int64(c.at.Sub(got.ForgottenTo)/time.Hour) || int64(s.state.Rows) != kept {
			t.Errorf("%s: %d are there, forgotten until %s of %s, %d rows", what, kept, got.ForgottenTo, c.at, s.state.Rows)
		}
	}
}
