package advice

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sluice.dev/sluice/internal/httppath"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
)

// How much goes into one policy before the next is begun. What a policy may hold is
// said by api.Validate alone, which each of them is given to.
const (
	someMatches = 64
	someWords   = 256 // methods, paths or upgrades of one match
	someHosts   = 1000
	somePorts   = 64
)

// request is what a rule says of a request; "" stands for any method or path, and for
// no change of protocol. The zero request is any.
type request struct{ method, path, upgrade string }

// requestOf is the narrowest that a rule can say of a request: a method or a path that
// no rule can list stands for any.
func requestOf(c *policy.Chain) request {
	r := request{c.Method, c.Path, strings.ToLower(c.Upgrade)}
	if len(r.method) >= record.MaxText || !listable(policy.HTTPMatch{Methods: []string{r.method}}) {
		r.method = ""
	}
	if len(r.path) >= record.MaxText || strings.Contains(r.path, "*") || !httppath.IsNormal(r.path) || !listable(policy.HTTPMatch{Paths: []string{r.path}}) {
		r.path = ""
	}
	if r.method == "" && r.path == "" || len(r.upgrade) >= record.MaxText || r.upgrade != "" && !listable(r.match()) {
		return request{} // a rule without a list alone allows it
	}
	return r
}

// match is the alternative of a rule that allows just r.
func (r request) match() policy.HTTPMatch {
	list := func(word string) []string {
		if word == "" {
			return nil
		}
		return []string{word}
	}
	return policy.HTTPMatch{Methods: list(r.method), Paths: list(r.path), Upgrades: list(r.upgrade)}
}

// listable reports whether an EgressPolicy may hold the match.
func listable(m policy.HTTPMatch) bool {
	rule := on(80, policy.ProtocolHTTP)
	rule.Hosts, rule.HTTP = []names.Pattern{names.MustParsePattern("host.example")}, []policy.HTTPMatch{m}
	plainTLS(&rule)
	_, ok := asPolicy(&rule, &Options{})
	return ok
}

// covered reports whether another of the requests allows what r does.
func (r request) covered(all map[request]struct{}, upgrades map[request][]string) bool {
	for _, wider := range []request{{r.method, r.path, ""}, {r.method, "", ""}, {"", r.path, ""}} {
		if wider.method == "" && wider.path == "" {
			continue
		}
		for _, upgrade := range upgrades[wider] {
			other := request{wider.method, wider.path, upgrade}
			// What may change to a protocol need not.
			if other != r && (r.upgrade == "" || r.upgrade == upgrade) {
				if _, ok := all[other]; ok {
					return true
				}
			}
		}
	}
	return false
}

// matchesOf are the alternatives that allow the requests and no other, in lists of
// which each fits one policy; one empty list where any request is allowed.
func matchesOf(all map[request]struct{}) [][]policy.HTTPMatch {
	if _, any := all[request{}]; any {
		return [][]policy.HTTPMatch{nil}
	}
	upgrades := make(map[request][]string) // by method and path
	for r := range all {
		key := request{r.method, r.path, ""}
		upgrades[key] = append(upgrades[key], r.upgrade)
	}
	// The upgrades of each method and path that is needed.
	needed := make(map[request][]string)
	for r := range all {
		if !r.covered(all, upgrades) {
			key := request{r.method, r.path, ""}
			needed[key] = append(needed[key], r.upgrade)
		}
	}
	// Methods of one path with the same upgrades go together, and then paths with the
	// same methods.
	type methodsKey struct{ path, upgrades string }
	methods := make(map[methodsKey][]string)
	for r, u := range needed {
		slices.Sort(u)
		key := methodsKey{r.path, strings.Join(u, " ")}
		methods[key] = append(methods[key], r.method)
	}
	type pathsKey struct {
		methods, upgrades string
		anyPath           bool
	}
	paths := make(map[pathsKey][]string)
	for of, m := range methods {
		slices.Sort(m)
		key := pathsKey{strings.Join(m, " "), of.upgrades, of.path == ""}
		paths[key] = append(paths[key], of.path)
	}
	var matches []policy.HTTPMatch
	for _, key := range slices.SortedFunc(maps.Keys(paths), func(a, b pathsKey) int {
		return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b))
	}) {
		list := paths[key]
		slices.Sort(list)
		for m := range chunks(strings.Fields(key.methods)) {
			for u := range chunks(strings.Fields(key.upgrades)) {
				if key.anyPath {
					matches = append(matches, policy.HTTPMatch{Methods: m, Upgrades: u})
					continue
				}
				for p := range slices.Chunk(list, someWords) {
					matches = append(matches, policy.HTTPMatch{Methods: m, Paths: p, Upgrades: u})
				}
			}
		}
	}
	return slices.Collect(slices.Chunk(matches, someMatches))
}

// chunks yields the words in lists of which each fits a match; once nil where there
// are none.
func chunks(words []string) func(func([]string) bool) {
	if len(words) == 0 {
		return func(yield func([]string) bool) { yield(nil) }
	}
	return slices.Chunk(words, someWords)
}
