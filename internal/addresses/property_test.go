package addresses

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// drawAddr draws an address of either family, near a row of the table more often
// than not: at random hardly any of its narrow blocks would be met.
func drawAddr(t *rapid.T) netip.Addr {
	var b []byte
	if near := rapid.IntRange(-1, len(everyRow)-1).Draw(t, "near"); near >= 0 {
		p := netip.MustParsePrefix(everyRow[near].prefix)
		b = p.Addr().AsSlice()
		if bit := rapid.IntRange(0, len(b)*8-1).Draw(t, "flip"); rapid.Bool().Draw(t, "flipped") {
			b[bit/8] ^= 1 << (7 - bit%8)
		}
	} else {
		n := rapid.SampledFrom([]int{4, 16}).Draw(t, "bytes")
		b = rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "address")
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func drawPrefix(t *rapid.T) netip.Prefix {
	a := drawAddr(t)
	return netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits")).Masked()
}

func TestSpecialFindsWhatAWalkOverAllRowsFinds(t *testing.T) {
	all, err := readRows(specialCSV)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		a := drawAddr(t)
		var want Block
		for _, r := range all {
			if r.Prefix.Contains(a) && (want == Block{} || r.Prefix.Bits() > want.Prefix.Bits()) {
				want = r.Block
			}
		}
		if got, ok := Special(a); got != want || ok != (want != Block{}) {
			t.Fatalf("%s is of %v, %v; a walk finds %v", a, got, ok, want)
		}
		if outside := a.Is6() && a.AsSlice()[0]>>5 != 1; outside && (want == Block{}) {
			t.Fatalf("%s lies outside 2000::/3 and is not special", a)
		}
		if Undialable(a) && (want == Block{}) {
			t.Fatalf("%s is never dialled, but not special", a)
		}
	})
}

func TestConsentIsNarrow(t *testing.T) {
	all, err := readRows(specialCSV)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		p := drawPrefix(t)
		consent, overlaps := InOneBlock(p), OverlapsSpecial(p)
		meets := false
		for _, r := range all {
			meets = meets || r.Prefix.Overlaps(p)
		}
		if overlaps != meets {
			t.Fatalf("%s holds special addresses: %v; a walk: %v", p, overlaps, meets)
		}
		if !consent {
			return
		}
		if !overlaps {
			t.Fatalf("%s is consent to special addresses and holds none", p)
		}
		for _, a := range []netip.Addr{p.Addr(), filled(p, 0x55), filled(p, 0xff)} {
			if _, ok := Special(a); !ok {
				t.Fatalf("%s is consent, and %s inside is public", p, a)
			}
		}
		// What is narrower is consent too; that of one bit more lies inside.
		if p.Bits() < p.Addr().BitLen() && !InOneBlock(netip.PrefixFrom(p.Addr(), p.Bits()+1)) {
			t.Fatalf("%s is consent, its first half is not", p)
		}
		if InOwn(p) && !Own(filled(p, 0x55)) {
			t.Fatalf("%s is Sluice's own, and an address inside is not", p)
		}
	})
}

func TestOwnRangesAreOwnHoweverTheyAreSpelled(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SampledFrom(OwnPrefixes()).Draw(t, "range")
		b := p.Addr().AsSlice()
		for bit := p.Bits(); bit < len(b)*8; bit++ {
			b[bit/8] |= byte(rapid.IntRange(0, 1).Draw(t, "bit")) << (7 - bit%8)
		}
		a, _ := netip.AddrFromSlice(b)
		spelled := a
		if a.Is4() && rapid.Bool().Draw(t, "mapped") {
			spelled = netip.AddrFrom16(a.As16())
		}
		narrow := netip.PrefixFrom(spelled, spelled.BitLen())
		if !Own(spelled) || !InOwn(narrow) || !Undialable(spelled) {
			t.Fatalf("%s: own %v, in own %v, never dialled %v", spelled, Own(spelled), InOwn(narrow), Undialable(spelled))
		}
		if _, ok := Special(spelled); !ok {
			t.Fatalf("%s is not special", spelled)
		}
	})
}

func TestLookingUpDoesNotAllocate(t *testing.T) {
	public, private, v6 := netip.MustParseAddr("93.184.216.34"), netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("2606:2800::1")
	prefix := netip.MustParsePrefix("10.1.0.0/16")
	allocations := testing.AllocsPerRun(100, func() {
		for _, a := range [...]netip.Addr{public, private, v6} {
			Special(a)
			Undialable(a)
		}
		InOneBlock(prefix)
		OverlapsSpecial(prefix)
		InOwn(prefix)
	})
	if allocations != 0 {
		t.Errorf("%v allocations", allocations)
	}
}

func BenchmarkSpecial(b *testing.B) {
	for name, text := range map[string]string{"public v4": "93.184.216.34", "private v4": "10.1.2.3", "public v6": "2606:2800::1", "mapped": "::ffff:10.0.0.1"} {
		a := netip.MustParseAddr(text)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				Special(a)
				Undialable(a)
			}
		})
	}
}
