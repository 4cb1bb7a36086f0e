package snapshot

import (
	"reflect"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/wire"
)

// changed makes the rules of a snapshot out of those of the one before it. It returns false
// where building anew costs less, and where it cannot be told which rule is which: then
// building anew says what is wrong.
func changed(base *Snapshot, to []*wire.Policy, options policy.Options) (*policy.Set, bool) {
	if base == nil {
		return nil, false
	}
	gone, added, ok := difference(base.policies, to)
	if !ok || 2*(len(added)+len(gone)) > base.Policy.Len() && base.Policy.Len() > 0 {
		return nil, false
	}
	set, err := base.Policy.Change(gone, added, options)
	return set, err == nil
}

// difference returns the IDs of the rules that are gone or others, and those that are new or
// others. Of most parts nothing changed, and what is in none that did is not looked at. It
// returns false where two of the rules that are looked at have one ID.
func difference(from, to []*wire.Policy) (gone []string, added []*policy.Rule, ok bool) {
	// A part that did not change is the same value: the stream's decoder shares them.
	before := make(map[*wire.Policy]bool, len(from))
	for _, part := range from {
		before[part] = true
	}
	var fresh []*policy.Rule
	for _, part := range to {
		if before[part] {
			delete(before, part)
			continue
		}
		for i := range part.Rules {
			fresh = append(fresh, &part.Rules[i])
		}
	}
	there := make(map[string]*policy.Rule)
	for part := range before {
		for i := range part.Rules {
			if there[part.Rules[i].ID] != nil {
				return nil, nil, false
			}
			there[part.Rules[i].ID] = &part.Rules[i]
		}
	}
	seen := make(map[string]bool, len(fresh))
	for _, rule := range fresh {
		if seen[rule.ID] {
			return nil, nil, false
		}
		seen[rule.ID] = true
		if old := there[rule.ID]; old != nil && reflect.DeepEqual(old, rule) {
			delete(there, rule.ID)
			continue
		}
		added = append(added, rule)
	}
	for id := range there {
		gone = append(gone, id)
	}
	return gone, added, true
}
