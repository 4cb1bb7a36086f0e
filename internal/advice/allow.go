package advice

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"sluice.dev/sluice/internal/addresses"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
)

// ParseAllow reads the short form of a rule, as the flag --allow takes it:
// HOST[:PORT], where HOST is a name, a wildcard, an address or a range of
// addresses (an IPv6 one in brackets when a port follows: [2001:db8::/32]:443).
// Without a port it is 443. Port 443 is https, 80 is http, and any other tcp,
// which relays whatever is spoken there.
func ParseAllow(text string) (policy.Rule, error) {
	rule := policy.Rule{ID: "--allow " + text}
	host, port := text, policy.Port{Port: 443}
	if at := strings.LastIndexByte(text, ':'); at >= 0 && (text[0] == '[' && text[at-1] == ']' || strings.Count(text, ":") == 1) {
		n, err := strconv.ParseUint(text[at+1:], 10, 16)
		if err != nil || n == 0 {
			return policy.Rule{}, fmt.Errorf("--allow %s: port %q is not a number from 1 to 65535", text, text[at+1:])
		}
		host, port.Port = text[:at], uint16(n)
	}
	switch port.Port {
	case 443:
		port.Protocol = policy.ProtocolHTTPS
	case 80:
		port.Protocol = policy.ProtocolHTTP
	default:
		port.Protocol = policy.ProtocolTCP
	}
	rule.Ports = []policy.Port{port}
	bare := host
	if strings.HasPrefix(bare, "[") && strings.HasSuffix(bare, "]") {
		bare = bare[1 : len(bare)-1]
	}
	if strings.Contains(bare, "/") {
		cidr, err := addresses.ParseCIDR(bare)
		if err != nil {
			return policy.Rule{}, fmt.Errorf("--allow %s: %w", text, err)
		}
		rule.CIDRs = []netip.Prefix{cidr}
		return rule, nil
	}
	if h, err := names.ParseHost(host); err == nil && h.Addr.IsValid() {
		rule.CIDRs = []netip.Prefix{netip.PrefixFrom(h.Addr, h.Addr.BitLen())}
		return rule, nil
	}
	pattern, err := names.ParsePattern(strings.ToLower(strings.TrimSuffix(host, ".")))
	if err != nil {
		// A name in another alphabet: the grammar of patterns has its A-labels.
		name, parseErr := names.Parse(host)
		if parseErr != nil {
			return policy.Rule{}, fmt.Errorf("--allow %s: %w", text, err)
		}
		if pattern, err = names.ExactPattern(name); err != nil {
			return policy.Rule{}, fmt.Errorf("--allow %s: %w", text, err)
		}
	}
	rule.Hosts = []names.Pattern{pattern}
	return rule, nil
}

// allowForm returns the text that ParseAllow would read as a rule on one
// destination and port.
func allowForm(rule *policy.Rule) string {
	host := ""
	switch {
	case len(rule.Hosts) == 1 && len(rule.CIDRs) == 0:
		host = rule.Hosts[0].String()
	case len(rule.CIDRs) == 1 && len(rule.Hosts) == 0:
		if cidr := rule.CIDRs[0]; cidr.IsSingleIP() {
			host = cidr.Addr().String()
		} else {
			host = cidr.String()
		}
		if rule.CIDRs[0].Addr().Is6() {
			host = "[" + host + "]"
		}
	}
	if host == "" || len(rule.Ports) == 0 {
		return ""
	}
	return host + ":" + strconv.Itoa(int(rule.Ports[0].Port))
}
