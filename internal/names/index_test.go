package names

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// matches is everything that Walk gives.
func matches(x *Index, n Name) (all []Match) {
	x.Walk(n, func(m Match) bool {
		all = append(all, m)
		return true
	})
	return all
}

// naiveMatches filters, then sorts by how specific a pattern is.
func naiveMatches(held map[Pattern]uint32, n Name) (all []Match) {
	matching := slices.Collect(func(yield func(Pattern) bool) {
		for p := range held {
			if naiveMatch(p, n) && !yield(p) {
				return
			}
		}
	})
	slices.SortFunc(matching, func(a, b Pattern) int { return b.Specificity() - a.Specificity() })
	for _, p := range matching {
		all = append(all, Match{held[p], !strings.HasPrefix(p.String(), "*")})
	}
	return all
}

func TestAnIndexThatIsChangedHoldsWhatTheNaiveModelHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		held := map[Pattern]uint32{}
		var index *Index
		for round := range rapid.IntRange(1, 8).Draw(t, "rounds") {
			before, old := index, maps.Clone(held)
			edit := index.Change()
			for i := range rapid.IntRange(0, 30).Draw(t, "changes") {
				p := drawPattern(t, "pattern")
				if rapid.Bool().Draw(t, "delete") {
					edit.Delete(p)
					delete(held, p)
				} else if value := uint32(round*100 + i); edit.Put(p, value) {
					held[p] = value
				}
			}
			index = edit.Done()
			if index.Len() != len(held) {
				t.Fatalf("Len() = %d, want %d", index.Len(), len(held))
			}
			for p, value := range held {
				if got, ok := index.Get(p); !ok || got != value {
					t.Fatalf("Get(%s) = %d, %t; want %d", p, got, ok, value)
				}
			}
			n := drawName(t, "name")
			if got, want := matches(index, n), naiveMatches(held, n); !slices.Equal(got, want) {
				t.Fatalf("%s matches %v, want %v", n, got, want)
			}
			if got, want := matches(before, n), naiveMatches(old, n); !slices.Equal(got, want) {
				t.Fatalf("the index that was changed finds %v for %s, want %v as before", got, n, want)
			}
		}
	})
}

func TestANameWithMoreSuffixesThanUsualFindsThemAllInOrder(t *testing.T) {
	var index *Index
	edit := index.Change()
	long := strings.TrimSuffix(strings.Repeat("a.", 127), ".")
	for i := range len(long) {
		edit.Put(MustParsePattern("*"+long[i+1:]), uint32(len(long)-i))
	}
	edit.Put(MustParsePattern(long), 1000)
	index = edit.Done()
	got := matches(index, MustParse(long))
	if len(got) != len(long)+1 || got[0] != (Match{1000, true}) {
		t.Fatalf("%d patterns, the first %v; want %d", len(got), got[0], len(long)+1)
	}
	for i, m := range got[1:] {
		if m != (Match{Value: uint32(len(long) - i)}) {
			t.Fatalf("the wildcard number %d is %v", i, m)
		}
	}
	stopped := 0
	index.Walk(MustParse(long), func(Match) bool { stopped++; return stopped < 3 })
	if stopped != 3 {
		t.Errorf("yield was called %d times after it returned false at the third", stopped)
	}
}

func TestAnIndexKeepsNoPatternThatCanMatchNothing(t *testing.T) {
	var index *Index
	edit := index.Change()
	for _, s := range []string{"10.0.0.1", "foo.123", "*" + strings.TrimSuffix(strings.Repeat("a.", 127), ".")} {
		p := MustParsePattern(s)
		if edit.Put(p, 1) {
			t.Errorf("%s was kept", s)
		}
		edit.Delete(p)
	}
	edit.Put(MustParsePattern("*"), 1)
	index = edit.Done()
	if len(matches(index, Name{})) != 0 || index.Len() != 1 {
		t.Error("\"*\" matches no name at all")
	}
	if (*Index)(nil).Len() != 0 || len(matches(nil, MustParse("a.b"))) != 0 {
		t.Error("an empty index finds something")
	}
}

func TestAnIndexGivesBackWhatWasTakenOut(t *testing.T) {
	index := manyPatterns(20_000)
	edit := index.Change()
	for i := range 20_000 {
		edit.Delete(MustParsePattern(fmt.Sprintf("*.host%d.example.com", i)))
		if i > 0 {
			edit.Delete(MustParsePattern(fmt.Sprintf("host%d.example.com", i)))
		}
	}
	index = edit.Done()
	slots, text := 0, 0
	for _, s := range index.shards {
		if s != nil {
			slots, text = slots+len(s.slots), text+cap(s.text)
		}
	}
	if index.Len() != 2 || slots > 2*16 || text > 256 {
		t.Errorf("%d patterns take %d slots and %d bytes of text", index.Len(), slots, text)
	}
}

func TestWalkingAnIndexDoesNotAllocate(t *testing.T) {
	index := manyPatterns(1000)
	for _, s := range []string{"www.host500.example.com", "host500.example.com", "a.b.c.nowhere.example"} {
		n, found := MustParse(s), uint32(0)
		if allocs := testing.AllocsPerRun(100, func() {
			index.Walk(n, func(m Match) bool { found = m.Value; return false })
		}); allocs != 0 {
			t.Errorf("Walk(%s): %v allocations (found %d)", s, allocs, found)
		}
	}
}

func manyPatterns(count int) *Index {
	var index *Index
	edit := index.Change()
	for i := range count {
		edit.Put(MustParsePattern(fmt.Sprintf("*.host%d.example.com", i)), uint32(i))
		edit.Put(MustParsePattern(fmt.Sprintf("host%d.example.com", i)), uint32(i))
	}
	edit.Put(MustParsePattern("*"), uint32(count))
	return edit.Done()
}

func BenchmarkIndexWalk(b *testing.B) {
	for _, count := range []int{1000, 100_000} {
		index := manyPatterns(count)
		n := MustParse("www.host500.example.com")
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				index.Walk(n, func(Match) bool { return false })
			}
		})
	}
}

func BenchmarkIndexChange(b *testing.B) {
	index := manyPatterns(50_000)
	for _, count := range []int{1, 100} {
		fresh := make([]Pattern, count)
		for i := range fresh {
			fresh[i] = MustParsePattern(fmt.Sprintf("new-%d.example.org", i))
		}
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				edit := index.Change()
				for _, p := range fresh {
					edit.Put(p, 7)
				}
				edit.Done()
			}
		})
	}
}
