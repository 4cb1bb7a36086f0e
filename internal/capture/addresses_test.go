package capture

import (
	"net/netip"
	"testing"

	"sluice.dev/sluice/internal/addresses"
)

// Whoever asks the one table must find every address that a namespace is given.
func TestEveryAddressOfANamespaceLiesInSluicesOwnRanges(t *testing.T) {
	for _, p := range []netip.Prefix{SyntheticPrefix4, SyntheticPrefix6, WorkloadPrefix4, WorkloadPrefix6} {
		if !addresses.InOwn(p) {
			t.Errorf("%s does not lie in Sluice's own ranges", p)
		}
	}
	last4, last6 := WorkloadAddresses(MaxWorkload)
	for _, a := range []netip.Addr{Gate4, Gate6, last4, last6} {
		if !addresses.Own(a) {
			t.Errorf("%s is not Sluice's own", a)
		}
	}
}
