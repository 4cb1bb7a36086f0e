package flowstore

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sluice.dev/sluice/internal/record"
)

// The file takes at most 15 MB for 100,000 hosts beside the flows one by one, so that a
// million of both stays below 200 MB (1,050,000 hosts were measured: 120 MB).
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
	t.Logf("%d rows, %d flows of %d bytes: %d MB", s.state.Rows, s.state.Flows, s.state.FlowBytes, info.Size()/1_000_000)
	if info.Size() > 15_000_000+3*int64(s.state.FlowBytes)/2 || s.state.Rows != hosts {
		t.Errorf("%d rows and %d bytes of flows in %d bytes", s.state.Rows, s.state.FlowBytes, info.Size())
	}
}
