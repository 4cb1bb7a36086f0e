package policy

import (
	"cmp"
	"slices"
)

// held is a holder and how many patterns have its number. A rule counts as one for its own.
type held struct {
	*holder
	patterns int
	own      bool // the edit made it, of several rules: it may be changed
}

// joining is a holder and the rule that is put in beside its rules or taken out of them:
// many patterns of two rules get one holder.
type joining struct {
	holder *holder
	rule   *ruleEntry
	out    bool
}

// joined is what came of it, unless the number has another holder by now.
type joined struct {
	holder *holder
	number uint32
}

// number gives a holder a number.
func (e *edit) number(h held) uint32 {
	if n := len(e.set.free); n > 0 {
		number := e.set.free[n-1]
		e.set.free = e.set.free[:n-1]
		e.set.holders[number] = h
		return number
	}
	e.set.holders = append(e.set.holders, h)
	return uint32(len(e.set.holders) - 1)
}

// leave says that one pattern fewer has the number.
func (e *edit) leave(number uint32) {
	of := &e.set.holders[number]
	if of.patterns--; of.patterns == 0 {
		*of = held{}
		e.set.free = append(e.set.free, number)
	}
}

// join returns the number of the holder that one pattern has after a rule was put in beside
// those of its holder, or taken out of them.
func (e *edit) join(number uint32, rule *ruleEntry, out bool) uint32 {
	of := &e.set.holders[number]
	key := joining{of.holder, rule, out}
	made, ok := e.joined[key]
	if !ok || e.set.holders[made.number].holder != made.holder {
		if of.own && of.patterns == 1 && !(out && len(of.members) == 2) {
			of.holder = changed(of.members, rule, out)
			return number
		}
		made.holder = changed(slices.Clone(of.members), rule, out)
		if len(made.holder.members) == 1 {
			made.number = made.holder.members[0].number
			made.holder = e.set.holders[made.number].holder
		} else {
			made.number = e.number(held{holder: made.holder, own: true})
			e.owned = append(e.owned, made.number)
		}
		e.joined[key] = made
	}
	e.set.holders[made.number].patterns++
	e.leave(number)
	return made.number
}

// changed returns a holder of one rule more or less, whose tiers are made in the end.
func changed(members []*ruleEntry, rule *ruleEntry, out bool) *holder {
	if out {
		return &holder{members: withoutRule(members, rule)}
	}
	return &holder{members: insertRule(members, rule)}
}

// insertRule puts a rule into a list in the order of IDs, behind those of the same ID.
func insertRule(all []*ruleEntry, fresh *ruleEntry) []*ruleEntry {
	at := len(all)
	for at > 0 && all[at-1].rule.ID > fresh.rule.ID {
		at--
	}
	return slices.Insert(all, at, fresh)
}

func withoutRule(all []*ruleEntry, gone *ruleEntry) []*ruleEntry {
	at := slices.Index(all, gone)
	if at < 0 {
		return all
	}
	return slices.Delete(all, at, at+1)
}

// newHolder makes the tiers of rules, which come in the order of IDs.
func newHolder(members []*ruleEntry) *holder {
	h := &holder{members: members}
	for _, member := range members {
		h.rule = tighter(h.rule, &member.rule)
		for _, port := range member.rule.Ports {
			key := portOf(port.Protocol.Transport(), port.Port)
			at, found := slices.BinarySearchFunc(h.ports, key, func(t portTier, key portKey) int { return cmp.Compare(t.port, key) })
			if !found {
				h.ports = slices.Insert(h.ports, at, portTier{port: key})
			}
			h.ports[at].tier.add(member.candidate(port))
		}
	}
	h.ports = slices.Clip(h.ports)
	return h
}

func (r *ruleEntry) candidate(port Port) candidate {
	return candidate{&r.rule, port.Protocol, r.consent, port.IdleTimeout, port.Upstream}
}
