package policy

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/names"
)

// The port that lets a connection pass says how long it may be idle.
func TestAVerdictCarriesTheIdleTimeoutOfItsPort(t *testing.T) {
	name := names.MustParse("db.example.com")
	pattern, err := names.ParsePattern("db.example.com")
	if err != nil {
		t.Fatal(err)
	}
	set, err := NewSet([]Rule{
		{ID: "named", Hosts: []names.Pattern{pattern}, Ports: []Port{
			{Port: 1, Protocol: ProtocolTCP, IdleTimeout: time.Minute}, {Port: 2, Protocol: ProtocolTCP},
			{Port: 3, Protocol: ProtocolTCP, IdleTimeout: time.Hour}, {Port: 3, Protocol: ProtocolTLS, IdleTimeout: time.Second},
		}},
		{ID: "ranged", CIDRs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Ports: []Port{{Port: 4, Protocol: ProtocolTCP, IdleTimeout: 2 * time.Hour}}},
	}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		chain Chain
		want  time.Duration
	}{
		{Chain{Port: 1, Dialled: name, Sniffed: Unseen}, time.Minute},
		{Chain{Port: 1, Dialled: name, Sniffed: Opaque}, time.Minute},
		{Chain{Port: 2, Dialled: name, Sniffed: Opaque}, 0},
		{Chain{Port: 3, Dialled: name, Sniffed: Opaque}, time.Hour},
		{Chain{Port: 3, Dialled: name, SNI: name, Sniffed: ClientHello}, time.Second},
		{Chain{Port: 4, Dialled: name, Sniffed: Opaque}, 2 * time.Hour}, // a name that leads into the range
		{Chain{Port: 4, Addr: netip.MustParseAddr("192.0.2.1"), Sniffed: Opaque}, 2 * time.Hour},
	} {
		if v := set.Decide(&x.chain); !v.Passes() || v.IdleTimeout != x.want {
			t.Errorf("%+v: passes %v (%s), %v, want %v", x.chain, v.Passes(), v.Reason, v.IdleTimeout, x.want)
		}
	}
	_, err = NewSet([]Rule{{ID: "bad", Hosts: []names.Pattern{pattern}, Ports: []Port{{Port: 1, Protocol: ProtocolTCP, IdleTimeout: -1}}}}, Options{})
	if err == nil || !strings.Contains(err.Error(), "idle timeout") {
		t.Errorf("a negative one: %v", err)
	}
}
