package advice

import (
	"cmp"
	"net/netip"
	"slices"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
)

// tierKey is one destination on one port: what a tier of rules decides about.
type tierKey struct {
	name names.Name
	addr netip.Addr // where name is zero
	port uint16
}

func (k tierKey) compare(l tierKey) int {
	return cmp.Or(cmp.Compare(k.name.String(), l.name.String()), k.addr.Compare(l.addr), cmp.Compare(k.port, l.port))
}

// kind is what was said first on a connection.
type kind uint8

const (
	plainRequests kind = iota
	hellos
	otherBytes
	kinds
)

// need is what the records of one destination and port need.
type need struct {
	port uint16
	said [kinds]bool
	// asBytes: a tcp rule carried it, or nothing else can (a hello that names nobody).
	asBytes [kinds]bool
	named   bool // some hello names the server

	requests   map[request]struct{}
	treatment  policy.Treatment // of the last request that was forwarded or originated
	httpsURL   bool             // a request's target was an https URL
	consenting [kinds]map[netip.Addr]struct{}
}

// add notes a record and returns its kind.
func (n *need) add(r *record.Record, c *policy.Chain) kind {
	var k kind
	switch c.Sniffed {
	case policy.HTTP:
		k = plainRequests
		if n.requests == nil {
			n.requests = make(map[request]struct{})
		}
		n.requests[requestOf(c)] = struct{}{}
		n.httpsURL = n.httpsURL || c.HTTPS
		if r.Treatment == policy.Forward || r.Treatment == policy.Originate {
			n.treatment = r.Treatment
		}
	case policy.ClientHello:
		k = hellos
		n.named = n.named || !c.SNI.IsZero()
		n.asBytes[k] = n.asBytes[k] || c.SNI.IsZero()
	default:
		k = otherBytes
		n.asBytes[k] = true
	}
	n.said[k] = true
	n.asBytes[k] = n.asBytes[k] || r.Treatment == policy.Relay
	return k
}

func (n *need) consent(k kind, to netip.Addr) {
	if n.consenting[k] == nil {
		n.consenting[k] = make(map[netip.Addr]struct{})
	}
	n.consenting[k][to] = struct{}{}
}

// originates reports whether plain HTTP is sent over TLS: as it was, else as its
// target or the port suggests.
func (n *need) originates() bool {
	switch {
	case n.httpsURL:
		return true
	case n.treatment != policy.Refuse:
		return n.treatment == policy.Originate
	}
	return policy.SpeaksTLS(n.port)
}

// rules returns the rules of one tier, each on one port and protocol. They stand
// beside each other: where one is meant for what was said, those for tcp do not count
// for it.
func (n *need) rules(key tierKey) []policy.Rule {
	if key.name.IsZero() { // tcp holds whatever was said to it
		rule := on(key.port, policy.ProtocolTCP)
		rule.CIDRs = []netip.Prefix{netip.PrefixFrom(key.addr, key.addr.BitLen())}
		return []policy.Rule{rule}
	}
	pattern, err := names.ExactPattern(key.name)
	if err != nil {
		return nil // a name that no rule can spell: it is left
	}
	var list []policy.Rule
	add := func(protocol policy.Protocol, of ...kind) *policy.Rule {
		rule := on(key.port, protocol)
		rule.Hosts, rule.PrivateAnswers = []names.Pattern{pattern}, n.answers(of)
		list = append(list, rule)
		return &list[len(list)-1]
	}
	var relayed []kind
	byHTTPS := false
	if n.said[plainRequests] {
		if n.asBytes[plainRequests] {
			relayed = append(relayed, plainRequests)
		} else {
			protocol := policy.ProtocolHTTP
			if byHTTPS = n.originates(); byHTTPS {
				protocol = policy.ProtocolHTTPS
			}
			for _, matches := range matchesOf(n.requests) {
				rule := add(protocol, plainRequests)
				rule.HTTP = matches
				if byHTTPS {
					rule.TLS.Mode = policy.TLSOriginate
				}
			}
		}
	}
	switch {
	case n.asBytes[hellos] && !byHTTPS: // https is meant for a hello: tcp would not count
		relayed = append(relayed, hellos)
	case n.named:
		add(policy.ProtocolTLS, hellos)
	}
	if n.said[otherBytes] {
		relayed = append(relayed, otherBytes)
	}
	if len(relayed) > 0 {
		add(policy.ProtocolTCP, relayed...)
	}
	return list
}

// on begins a rule on a port.
func on(port uint16, protocol policy.Protocol) policy.Rule {
	return policy.Rule{Ports: []policy.Port{{Port: port, Protocol: protocol}}}
}

// answers are the ranges of the private answers for some kinds.
func (n *need) answers(of []kind) []netip.Prefix {
	var list []netip.Prefix
	for _, k := range of {
		for addr := range n.consenting[k] {
			if one := netip.PrefixFrom(addr, addr.BitLen()); !slices.Contains(list, one) {
				list = append(list, one)
			}
		}
	}
	slices.SortFunc(list, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return list
}
