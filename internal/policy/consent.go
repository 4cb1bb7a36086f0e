package policy

import (
	"net/netip"
	"slices"

	"sluice.dev/sluice/internal/addresses"
	"sluice.dev/sluice/internal/refusal"
)

// Consent is what may be dialled under a verdict. It is the one judge of answers:
// the dialer asks it about the very address that it hands to connect, and so does
// whoever explains. The zero Consent refuses every address. Consents are small
// and may be kept; what they point to is shared.
type Consent struct{ lists *consentLists }

// consentLists is what a rule, or the rules on addresses of a port, say of
// addresses. It is immutable.
type consentLists struct {
	within  []netip.Prefix // not nil: only addresses inside (a name that only rules on addresses allow)
	special []netip.Prefix // special addresses that are consented to; each lies inside one block of the registries
}

// Judge says why an address must not be dialled, "" where it may be. A public
// address may be, inside the ranges where there are any. A special one (private,
// local, reserved) needs consent: a range of the rule, under privateAnswers or
// cidrs, that holds it and lies wholly inside one block of the registries. A wider
// range says "anywhere", not "here". Sluice's own addresses, multicast, broadcast,
// unspecified and IPv4-mapped ones may never be dialled.
func (c Consent) Judge(a netip.Addr) refusal.Reason {
	l := c.lists
	switch {
	case l == nil, addresses.Undialable(a):
		return refusal.PrivateAddress
	case l.within != nil && !holds(l.within, a):
		return refusal.OutsideCIDR
	}
	if _, special := addresses.Special(a); special && !holds(l.special, a) {
		return refusal.PrivateAddress
	}
	return ""
}

// Sift judges the answers for one name together: it returns those that may be
// dialled, in their order. Where none may, reason says why and refused holds the
// answers that it is true of; one that is not public weighs more than one that is
// outside the ranges.
func (c Consent) Sift(answers []netip.Addr) (allowed []netip.Addr, reason refusal.Reason, refused []netip.Addr) {
	allowed = make([]netip.Addr, 0, len(answers))
	for _, a := range answers {
		why := c.Judge(a)
		if why == "" {
			allowed = append(allowed, a)
			continue
		}
		if reason == "" || why == refusal.PrivateAddress && why != reason {
			reason, refused = why, nil
		}
		if why == reason {
			refused = append(refused, a)
		}
	}
	if len(allowed) > 0 {
		return allowed, "", nil
	}
	return nil, reason, refused
}

// Ranges returns the ranges inside which alone may be dialled; nil where there is
// no such bound. Nobody may change them.
func (c Consent) Ranges() []netip.Prefix {
	if c.lists == nil {
		return nil
	}
	return c.lists.within
}

// Equal reports whether two Consents allow the same addresses by the same ranges.
func (c Consent) Equal(d Consent) bool {
	if c.lists == d.lists {
		return true
	}
	return c.lists != nil && d.lists != nil &&
		(c.lists.within == nil) == (d.lists.within == nil) &&
		slices.Equal(c.lists.within, d.lists.within) && slices.Equal(c.lists.special, d.lists.special)
}

// NewConsent returns the Consent to public addresses and to the special ones in the
// ranges of special, inside within where that is not nil.
func NewConsent(within, special []netip.Prefix) Consent {
	lists := &consentLists{within: within}
	lists.consent(special)
	return Consent{lists}
}

// consentOf is what a rule that holds the destination consents to.
func consentOf(rule *Rule) *consentLists {
	lists := new(consentLists)
	lists.consent(rule.PrivateAnswers)
	lists.consent(rule.CIDRs)
	for _, pattern := range rule.Hosts {
		if addr, ok := pattern.Addr(); ok {
			lists.consent([]netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())})
		}
	}
	return lists
}

// consent adds the ranges that are consent to special addresses.
func (l *consentLists) consent(ranges []netip.Prefix) {
	for _, r := range ranges {
		if r = unmapPrefix(r); addresses.InOneBlock(r) {
			l.special = append(l.special, r)
		}
	}
}

func holds(ranges []netip.Prefix, addr netip.Addr) bool {
	for _, r := range ranges {
		if r.Contains(addr) {
			return true
		}
	}
	return false
}
