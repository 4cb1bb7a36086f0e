package policy

import (
	"fmt"
	"net/netip"
	"slices"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/refusal"
)

// MaxWithin is the bound on the ranges that one Consent lists.
const MaxWithin = 1 << 17

// maxRequestLists is the bound on the rules on addresses of one port that ask for
// methods or paths and may allow a name; those after it allow addresses only.
const maxRequestLists = 256

// within is what rules on addresses say of names that no rule on names holds:
// the name is resolved, and only answers inside the ranges may be dialled. Which
// ranges those are depends on what was sniffed, and is worked out beforehand.
//
// The rules of one list have the same TLS settings and privateAnswers as its
// first one, for the verdict names one rule; where they differ, the first by ID
// counts. Rules that ask for methods or paths have a list each, and count where
// no other allows the name.
type within struct {
	http, hello, nameless, opaque judgement
	requests                      []judgement
}

// judgeWithin says how rules on addresses carry a name.
func (t *portTable) judgeWithin(c *Chain) judgement {
	w := &t.within
	switch {
	case c.Sniffed == ClientHello && c.SNI.IsZero():
		return w.nameless
	case c.Sniffed == ClientHello:
		return w.hello
	case c.Sniffed != HTTP:
		return w.opaque
	}
	if w.http.reason != "" {
		for i := range w.requests {
			j := &w.requests[i]
			if j.rule.allowsRequest(c) == "" && !(j.treatment == Forward && c.HTTPS) {
				return *j
			}
		}
	}
	if w.http.reason == "" && w.http.treatment == Forward && c.HTTPS {
		return judgement{rule: w.http.rule, protocol: w.http.protocol, reason: refusal.SchemeMismatch}
	}
	return w.http
}

// compile fills the lists from the table's tiers.
func (w *within) compile(t *portTable) error {
	all := rangesOf(t)
	for _, kind := range w.kinds() {
		// A rule on some requests allows none without a method and a path, or with such an upgrade.
		judgement, err := all.judge(func(t *tier) judgement { return t.judge(&kind.chain) })
		if err != nil {
			return err
		}
		*kind.of = judgement
	}
	for _, d := range all.requestCandidates() {
		judgement, err := d.ranges.judge(func(t *tier) judgement { return t.judgeAlone(d.candidate) })
		if err != nil {
			return err
		}
		if judgement.reason == "" {
			w.requests = append(w.requests, judgement)
		}
	}
	slices.SortStableFunc(w.requests, func(a, b judgement) int { return compareRules(a.rule, b.rule) })
	return nil
}

// kind is what may be sniffed on a connection to a name, and the judgement of it.
type kind struct {
	of    *judgement
	chain Chain
}

// anyUpgrade is a protocol that no rule lists: only a rule that allows any request
// allows to change to it.
const anyUpgrade = "\x00"

func (w *within) kinds() [4]kind {
	anyName := names.MustParse("any.invalid") // any will do: tiers on addresses do not look at it
	return [...]kind{
		{&w.http, Chain{Sniffed: HTTP, Dialled: anyName, Upgrade: anyUpgrade}},
		{&w.hello, Chain{Sniffed: ClientHello, SNI: anyName}},
		{&w.nameless, Chain{Sniffed: ClientHello}},
		{&w.opaque, Chain{Sniffed: Opaque}},
	}
}

// requestCandidate is a rule's port that allows only some requests, and the
// ranges whose tiers hold it.
type requestCandidate struct {
	candidate
	ranges addrRanges
}

// requestCandidates returns the first maxRequestLists of them.
func (all addrRanges) requestCandidates() []*requestCandidate {
	var list []*requestCandidate
	known := map[candidate]*requestCandidate{}
	for _, r := range all {
		for _, d := range r.tier.candidates {
			if !d.rule.NeedsRequest() || !takesHTTP.holdsAny(protocols(0).with(d.protocol)) {
				continue
			}
			of := known[d]
			if of == nil {
				if len(list) == maxRequestLists {
					continue
				}
				of = &requestCandidate{candidate: d}
				known[d], list = of, append(list, of)
			}
			of.ranges = append(of.ranges, r)
		}
	}
	return list
}

// judgeAlone says what d, a candidate of the tier, comes to for a request that it
// allows.
func (t *tier) judgeAlone(d candidate) judgement {
	if d.protocol == ProtocolHTTPS && d.rule.TLS.Mode == TLSPassthrough {
		return judgement{reason: refusal.MethodOrPath}
	}
	treatment := Forward
	if d.protocol == ProtocolHTTPS || d.upstream.Protocol == ProtocolHTTPS {
		treatment = Originate
	}
	return judgement{rule: d.rule, protocol: d.protocol, treatment: treatment, idle: d.idle, upstream: d.upstream.Port}
}

// addrRange is one tier's range, the one that it lies right inside of, and those
// right inside it.
type addrRange struct {
	prefix netip.Prefix
	tier   *tier
	outer  *addrRange
	inside addrRanges

	// While judge works, and false otherwise: the range's own tier allows, and so
	// do all ranges inside it.
	allowed, whole bool
}

type addrRanges []*addrRange

// rangesOf returns every range of the table, in the order of addresses, outer
// ones first, each knowing those right inside it.
func rangesOf(t *portTable) addrRanges {
	var all, open addrRanges
	for prefix, tier := range t.addrs.AllSorted() {
		r := &addrRange{prefix: prefix, tier: tier}
		all = append(all, r)
		for len(open) > 0 && !open[len(open)-1].prefix.Overlaps(prefix) {
			open = open[:len(open)-1]
		}
		if len(open) > 0 {
			r.outer = open[len(open)-1]
			r.outer.inside = append(r.outer.inside, r)
		}
		open = append(open, r)
	}
	return all
}

// judge puts the judgements of the ranges' tiers together: the first rule by ID
// that allows, and every range whose own tier allows with the same settings. An
// outer range without those inside it that say otherwise, or are not in the list,
// is cut into pieces.
func (list addrRanges) judge(say func(*tier) judgement) (judgement, error) {
	var lead judgement
	said := make([]judgement, len(list))
	for i, r := range list {
		if len(r.tier.candidates) == 0 {
			continue
		}
		j := say(r.tier)
		said[i] = j
		better := lead.rule == nil ||
			j.reason == "" && (lead.reason != "" || compareRules(j.rule, lead.rule) < 0)
		if better {
			lead = j
		}
	}
	if lead.reason != "" {
		return lead, nil
	}
	// Inner ranges stand behind outer ones: backwards, what is inside comes first.
	for i, r := range slices.Backward(list) {
		j := &said[i]
		r.allowed = j.rule != nil && j.reason == "" && j.likewise(&lead)
		r.whole = r.allowed && !slices.ContainsFunc(r.inside, func(inner *addrRange) bool { return !inner.whole })
	}
	defer func() {
		for _, r := range list {
			r.allowed, r.whole = false, false
		}
	}()
	consent := consentOf(lead.rule)
	pieces := []netip.Prefix{}
	for _, r := range list {
		if !r.allowed {
			continue
		}
		consent.consent([]netip.Prefix{r.prefix})
		if r.outer != nil && r.outer.allowed && r.whole {
			continue // the outer one's pieces hold it
		}
		pieces = append(pieces, r.withoutHoles()...)
		if len(pieces) > MaxWithin {
			return judgement{}, fmt.Errorf("more than %d address ranges allow names", MaxWithin)
		}
	}
	consent.within = slices.Clip(pieces)
	lead.consent = consent
	return lead, nil
}

// withoutHoles returns the range, cut where one right inside it is not allowed
// whole.
func (r *addrRange) withoutHoles() []netip.Prefix {
	var holes []netip.Prefix
	for _, inner := range r.inside {
		if !inner.whole {
			holes = append(holes, inner.prefix)
		}
	}
	return cut(nil, r.prefix, holes)
}

// cut appends p without holes, in as few ranges as there can be. The holes lie
// inside p, in the order of addresses, and do not overlap.
func cut(pieces []netip.Prefix, p netip.Prefix, holes []netip.Prefix) []netip.Prefix {
	switch {
	case len(holes) == 0:
		return append(pieces, p)
	case holes[0] == p:
		return pieces
	}
	low, high := halves(p)
	upper, _ := slices.BinarySearchFunc(holes, high.Addr(), func(hole netip.Prefix, at netip.Addr) int { return hole.Addr().Compare(at) })
	return cut(cut(pieces, low, holes[:upper]), high, holes[upper:])
}

// halves cuts a range in two; it must not be a single address.
func halves(p netip.Prefix) (low, high netip.Prefix) {
	bits := p.Bits() + 1
	bytes := p.Addr().AsSlice()
	bytes[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	upper, _ := netip.AddrFromSlice(bytes)
	return netip.PrefixFrom(p.Addr(), bits), netip.PrefixFrom(upper, bits)
}

// likewise reports whether what j carries is carried as lead carries it.
func (j *judgement) likewise(lead *judgement) bool {
	return j.treatment == lead.treatment && j.protocol.SpeaksHTTP2() == lead.protocol.SpeaksHTTP2() && j.upstream == lead.upstream && sameSettings(j.rule, lead.rule)
}

// sameSettings reports whether a verdict that names a may stand for b as well.
func sameSettings(a, b *Rule) bool {
	return a == b || a.TLS == b.TLS && a.MaxNewNames == b.MaxNewNames && slices.Equal(a.PrivateAnswers, b.PrivateAnswers)
}

func compareRules(a, b *Rule) int {
	switch {
	case a.ID < b.ID:
		return -1
	case a.ID > b.ID:
		return 1
	}
	return 0
}
