package record

import "testing"

func TestOnlySoManyRecordsAreRemembered(t *testing.T) {
	s := new(Seen)
	for n := range ID(maxSeen + 10) {
		if !s.Fresh(n) {
			t.Fatalf("record %d was seen", n)
		}
	}
	if len(s.ids) != maxSeen || len(s.order) != maxSeen {
		t.Errorf("%d, %d are remembered", len(s.ids), len(s.order))
	}
	if s.Fresh(maxSeen+9) || s.Fresh(10) || !s.Fresh(9) {
		t.Error("another than the oldest was forgotten")
	}
}
