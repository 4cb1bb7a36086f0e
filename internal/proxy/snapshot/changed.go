package snapshot

import (
	"reflect"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/wire"
)

// changed makes the rules of a snapshot out of those of the one before it: of most parts
// nothing changed, and what is of no part that did is not looked at. It returns false where
// building anew costs less, and where it cannot be told which rule is which: then building
// anew says what is wrong.
func changed(base *Snapshot, to []*wire.Policy, options policy.Options) (*policy.Set, bool) {
	if base == nil {
		return nil, false
	}
	// A part that did not change is the same value: the stream's decoder shares them.
	before := make(map[*wire.Policy]bool, len(base.policies))
	for _, part := range base.policies {
		before[part] = true
	}
	var added []*policy.Rule
	for _, part := range to {
		if before[part] {
			delete(before, part)
			continue
		}
		for i := range part.Rules {
			added = append(added, &part.Rules[i])
		}
	}
	there := make(map[string]*policy.Rule)
	for part := range before {
		for i := range part.Rules {
			if there[part.Rules[i].ID] != nil {
				return nil, false
			}
			there[part.Rules[i].ID] = &part.Rules[i]
		}
	}
	if 2*(len(added)+len(there)) > base.Policy.Len() && base.Policy.Len() > 0 {
		return nil, false
	}
	var fresh []*policy.Rule
	for _, rule := range added {
		if old := there[rule.ID]; old != nil && reflect.DeepEqual(old, rule) {
			delete(there, rule.ID)
			continue
		}
		fresh = append(fresh, rule)
	}
	gone := make([]string, 0, len(there))
	for id := range there {
		gone = append(gone, id)
	}
	set, err := base.Policy.Change(gone, fresh, options)
	return set, err == nil
}
