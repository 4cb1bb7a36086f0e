package compile

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"sluice.dev/sluice/internal/wire"
)

// ruleSet is the egress rules of all objects, changed with them. Only a Compiler uses it;
// the index that it makes is immutable.
type ruleSet struct {
	namespaces map[string]*namespaceSet
	index      *egressIndex
}

// namespaceSet is the rules of one namespace, with those that conflict.
type namespaceSet struct {
	rules    []*compiledEgress // sorted by compareEgress; never changed in place
	problems []Problem         // of conflicts
	// What of EgressRules may conflict: where every domain has one rule and every port
	// one family, none does, and the others need not be looked at when one comes.
	domains map[string]int
	ports   map[uint16]map[string]int
	clashes int // domains of several rules, and ports of several families
}

// compareEgress orders rules by ID. Two of one ID, which only files can have, are told apart
// by what they say.
func compareEgress(a, b *compiledEgress) int {
	return cmp.Or(cmp.Compare(a.rule.ID, b.rule.ID), cmp.Compare(a.hash, b.hash))
}

// change takes rules out and puts rules in.
func (s *ruleSet) change(gone, added []*compiledEgress, encode encoder) {
	type changes struct{ gone, added []*compiledEgress }
	touched := make(map[string]*changes)
	of := func(namespace string) *changes {
		if touched[namespace] == nil {
			touched[namespace] = new(changes)
		}
		return touched[namespace]
	}
	for _, rule := range gone {
		c := of(rule.namespace)
		c.gone = append(c.gone, rule)
	}
	for _, rule := range added {
		c := of(rule.namespace)
		c.added = append(c.added, rule)
	}
	if len(touched) == 0 && s.index != nil {
		return
	}
	index := &egressIndex{namespaces: make(map[string]*namespaceRules)}
	if s.index != nil {
		maps.Copy(index.namespaces, s.index.namespaces)
	}
	if s.namespaces == nil {
		s.namespaces = make(map[string]*namespaceSet)
	}
	for namespace, c := range touched {
		set := s.namespaces[namespace]
		if set == nil {
			set = &namespaceSet{domains: make(map[string]int), ports: make(map[uint16]map[string]int)}
			s.namespaces[namespace] = set
		}
		slices.SortFunc(c.added, compareEgress)
		fresh := set.change(index.namespaces[namespace], c.gone, c.added)
		if len(set.rules) == 0 {
			delete(s.namespaces, namespace)
			delete(index.namespaces, namespace)
			continue
		}
		fresh.cut(index.namespaces[namespace], prefixOf(namespace), encode)
		index.namespaces[namespace] = fresh
	}
	s.index = index
}

// problems are the conflicts of all namespaces.
func (s *ruleSet) problems() (all []Problem) {
	for _, set := range s.namespaces {
		all = append(all, set.problems...)
	}
	return all
}

func prefixOf(namespace string) string {
	if namespace == RootNamespace {
		return wire.PartPolicyRoot
	}
	return wire.PartPolicyNamespace
}

// change returns the rules that are in effect after the change; before is what was.
func (n *namespaceSet) change(before *namespaceRules, gone, added []*compiledEgress) *namespaceRules {
	clashed := n.clashes > 0
	for _, rule := range gone {
		n.count(rule, -1)
	}
	for _, rule := range added {
		n.count(rule, 1)
	}
	n.rules = exchanged(n.rules, gone, added)
	if clashed || n.clashes > 0 || before == nil {
		kept, problems := dropConflicts(n.rules)
		n.problems = problems
		return indexRules(kept)
	}
	fresh := &namespaceRules{own: before.own}
	goneAll, goneOwn := split(gone)
	addedAll, addedOwn := split(added)
	fresh.all = exchanged(before.all, goneAll, addedAll)
	if len(goneOwn)+len(addedOwn) > 0 {
		fresh.own = maps.Clone(before.own)
		for _, rule := range goneOwn {
			fresh.own.remove(rule)
		}
		for _, rule := range addedOwn {
			fresh.own.add(rule)
		}
	}
	return fresh
}

// count counts what of a rule may conflict.
func (n *namespaceSet) count(rule *compiledEgress, by int) {
	if rule.domain == "" {
		return
	}
	clash := func(before, now int) {
		if before > 1 {
			n.clashes--
		}
		if now > 1 {
			n.clashes++
		}
	}
	clash(n.domains[rule.domain], n.domains[rule.domain]+by)
	if n.domains[rule.domain] += by; n.domains[rule.domain] == 0 {
		delete(n.domains, rule.domain)
	}
	for _, port := range rule.rule.Ports {
		families := n.ports[port.Port]
		if families == nil {
			families = make(map[string]int)
			n.ports[port.Port] = families
		}
		before, of := len(families), family(port.Protocol)
		if families[of] += by; families[of] == 0 {
			delete(families, of)
		}
		clash(before, len(families))
		if len(families) == 0 {
			delete(n.ports, port.Port)
		}
	}
}

// exchanged returns a sorted list without the rules of gone, which are in it, and with the
// sorted ones of added.
func exchanged(all, gone, added []*compiledEgress) []*compiledEgress {
	if len(gone)+len(added) == 0 {
		return all
	}
	gone = slices.SortedFunc(slices.Values(gone), compareEgress)
	out := make([]*compiledEgress, 0, len(all)-len(gone)+len(added))
	for len(gone)+len(added) > 0 {
		if len(added) == 0 || len(gone) > 0 && compareEgress(gone[0], added[0]) <= 0 {
			at, _ := slices.BinarySearchFunc(all, gone[0], compareEgress)
			out, all, gone = append(out, all[:at]...), all[at+1:], gone[1:]
			continue
		}
		at, _ := slices.BinarySearchFunc(all, added[0], compareEgress)
		out, all, added = append(append(out, all[:at]...), added[0]), all[at:], added[1:]
	}
	return append(out, all...)
}

// split tells those rules apart that select every workload.
func split(rules []*compiledEgress) (all, own []*compiledEgress) {
	for _, rule := range rules {
		if rule.selectsSome() {
			own = append(own, rule)
		} else {
			all = append(all, rule)
		}
	}
	return all, own
}

// namespaceRules is the rules of one namespace that are in effect. It is immutable.
type namespaceRules struct {
	all    []*compiledEgress // without a selector
	own    selectorIndex     // with one
	chunks []*ruleChunk      // of all
	parts  func() ([]*wire.Part, error)
}

// ruleChunk is the rules of one part. It is made when it is first asked for, and stays the
// same while they do.
type ruleChunk struct {
	rules []*compiledEgress
	part  func() (*wire.Part, error)
}

// encoder makes the part of some rules.
type encoder func(prefix string, rules []*compiledEgress) (*wire.Part, error)

func indexRules(rules []*compiledEgress) *namespaceRules {
	fresh := &namespaceRules{own: make(selectorIndex)}
	all, own := split(rules)
	fresh.all = all
	for _, rule := range own {
		fresh.own.add(rule)
	}
	return fresh
}

// cut cuts the rules without a selector into the chunks of their parts. Those of before
// that are the same stay.
func (n *namespaceRules) cut(before *namespaceRules, prefix string, encode encoder) {
	known := make(map[*compiledEgress]*ruleChunk)
	if before != nil {
		from, to := changedRange(before.all, n.all)
		at := 0
		for _, chunk := range before.chunks {
			// A chunk also depends on the rule behind it, which may have its ID.
			if end := at + len(chunk.rules); end < from || at > to {
				known[chunk.rules[0]] = chunk
			}
			at += len(chunk.rules)
		}
	}
	rules := n.all
	for len(rules) > 0 {
		if chunk := known[rules[0]]; chunk != nil && len(chunk.rules) <= len(rules) {
			n.chunks = append(n.chunks, chunk)
			rules = rules[len(chunk.rules):]
			continue
		}
		length := chunkLength(rules)
		of := slices.Clone(rules[:length]) // a chunk outlives the list, and must not keep it
		n.chunks = append(n.chunks, &ruleChunk{rules: of, part: sync.OnceValues(func() (*wire.Part, error) { return encode(prefix, of) })})
		rules = rules[length:]
	}
	n.parts = sync.OnceValues(func() ([]*wire.Part, error) {
		parts := make([]*wire.Part, 0, len(n.chunks))
		for _, chunk := range n.chunks {
			part, err := chunk.part()
			if err != nil {
				return nil, err
			}
			parts = append(parts, part)
		}
		return parts, nil
	})
}

// changedRange returns between which rules of before something changed: all in front of from
// and all from to on are the same in after.
func changedRange(before, after []*compiledEgress) (from, to int) {
	shorter := min(len(before), len(after))
	for from < shorter && before[from] == after[from] {
		from++
	}
	same := 0
	for same < shorter-from && before[len(before)-1-same] == after[len(after)-1-same] {
		same++
	}
	return from, len(before) - same
}
