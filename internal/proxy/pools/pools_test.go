package pools

import (
	"context"
	"errors"
	"net"
	"testing"

	"sluice.dev/sluice/internal/proxy/share"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/refusal"
)

func nowhere() (upstream.Config, error) {
	one := share.NewStock(share.Config{Units: 1, Alone: true}).Join(0, nil)
	return upstream.Config{Allowance: upstream.Allowance{Open: one, Handshakes: one}, Dial: func(context.Context) (*net.TCPConn, error) { return nil, errors.New("nobody is there") }}, nil
}

func equal(a, b string) bool { return a == b }

// Past the bound the pool that was used longest ago gives way, and never one that is
// used at every request.
func TestThePoolThatIsUsedLeastGivesWay(t *testing.T) {
	var table Table[int, string]
	busy, _, err := table.Get(-1, "", equal, nowhere)
	if err != nil {
		t.Fatal(err)
	}
	var first *upstream.Pool
	for i := range MaxPools + 64 {
		pool, _, err := table.Get(i, "", equal, nowhere)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = pool
		}
		if i%16 == 0 {
			if again, _, err := table.Get(-1, "", equal, nowhere); again != busy || err != nil || busy.Closed() {
				t.Fatalf("after %d pools: the busy one gave way (%v)", i, err)
			}
		}
	}
	if table.Len() != MaxPools || !first.Closed() {
		t.Errorf("%d pools, the bound is %d; the first is closed: %v", table.Len(), MaxPools, first.Closed())
	}
}

func TestAPoolThatLeadsElsewhereGivesWayToOneThatDoesNot(t *testing.T) {
	var table Table[int, string]
	old, _, _ := table.Get(1, "here", equal, nowhere)
	made, is, err := table.Get(1, "there", equal, nowhere)
	if err != nil || is != "there" || made == old || !old.Closed() || made.Closed() || table.Len() != 1 {
		t.Errorf("%v; the old one is closed: %v, %d pools", err, old.Closed(), table.Len())
	}
}

func TestANewSnapshotClosesWhatItHasNoUseFor(t *testing.T) {
	var table Table[int, string]
	kept, _, _ := table.Get(1, "", equal, nowhere)
	ended, _, _ := table.Get(2, "", equal, nowhere)
	table.Recheck(func(key int, _ string) Fate {
		if key == 1 {
			return Keep
		}
		return End
	})
	if kept.Closed() || !ended.Closed() || table.Len() != 1 {
		t.Errorf("kept is closed: %v, ended is closed: %v, %d pools", kept.Closed(), ended.Closed(), table.Len())
	}
	table.Close()
	if _, _, err := table.Get(3, "", equal, nowhere); !kept.Closed() || refusal.Of(err).Reason != refusal.Withdrawn {
		t.Errorf("after Close: closed %v, %v", kept.Closed(), err)
	}
}

func TestAPoolThatCannotBeMadeTakesNoPlace(t *testing.T) {
	var table Table[int, string]
	broken := errors.New("the rule's caBundle holds no certificate")
	if _, _, err := table.Get(1, "", equal, func() (upstream.Config, error) { return upstream.Config{}, broken }); !errors.Is(err, broken) || table.Len() != 0 {
		t.Errorf("%v, %d pools", err, table.Len())
	}
}
