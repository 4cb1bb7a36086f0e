package resolve

import (
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"sluice.dev/sluice/internal/refusal"
)

// Several workloads may ask about one name at once, each in its own part of the look-ups.
func TestAFailureOfOneWorkloadTakesNoPlaceOfRecordsThatAnotherGot(t *testing.T) {
	r := NewResolver(ResolverConfig{Now: func() time.Time { return time.Unix(1, 0) }})
	defer r.Close()
	key := recordKey{"_a._tcp.example.com", dnsmessage.TypeSRV}
	known := func() recordsFound {
		found, _ := r.records.cache.get(key, r.now())
		return found
	}
	busy := noRecords(refusal.ResolveFailed, key, errBusy)
	settle(r, r.records.cache, key, recordsFound{err: busy}, busy, 0) // it never had its turn
	if _, there := r.records.cache.get(key, r.now()); there {
		t.Error("what never had its turn is known to fail")
	}
	settle(r, r.records.cache, key, recordsFound{err: busy}, busy, time.Minute)
	if known().err == nil {
		t.Error("a failure is not remembered")
	}
	settle(r, r.records.cache, key, recordsFound{records: Records{TTL: 1}}, nil, time.Minute)
	settle(r, r.records.cache, key, recordsFound{err: busy}, busy, time.Minute)
	if found := known(); found.err != nil || found.records.TTL != 1 {
		t.Errorf("behind a failure of another, %+v is known", found)
	}
	settle(r, r.records.cache, key, recordsFound{records: Records{TTL: 2}}, nil, time.Minute)
	if found := known(); found.records.TTL != 2 {
		t.Errorf("of two answers the newer is not kept: %+v", found)
	}
	if failures := r.failures.Load(); failures != 3 {
		t.Errorf("%d failures are counted: want 3", failures)
	}
}
