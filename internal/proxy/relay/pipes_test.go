package relay

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"sluice.dev/sluice/internal/proxy/share"
)

// A workload takes no more pipes than are its, and gives them back; beyond, its bytes
// are copied.
func TestARelayTakesNoMorePipesThanItsWorkloadMayHave(t *testing.T) {
	for _, may := range []int{0, 1} {
		of := share.NewStock(share.Config{Units: 4, Alone: true}).Join(4, nil)
		of.Try(4 - may)
		m := newMemory(t)
		x := start(t, t.Context(), Config{Memory: m, Pipes: of})
		sum := sha256.New()
		got := drain(x.destination)
		speak(t, x.client, sum, 4<<20)
		if !bytes.Equal(<-got, sum.Sum(nil)) {
			t.Error("the destination got other bytes")
		}
		x.destination.Close()
		if r := x.end(); r.Err != nil {
			t.Errorf("result %+v", r)
		}
		if m.none {
			t.Skip("this machine gives no pipe of 1 MiB")
		}
		if m.alive != may || of.Used() != 4-may {
			t.Errorf("of %d that it may have it made %d pipes, and %d are counted in the end", may, m.alive, of.Used()-(4-may))
		}
	}
}
