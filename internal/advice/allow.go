package advice

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"sluice.dev/sluice/internal/addresses"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
)

// The short form of a rule is read and written here: what a denial prints is what
// the flag takes.

// allowID begins the ID of a rule of --allow.
const allowID = "--allow "

// ParseAllow reads the short form of a rule, as the flag --allow takes it:
// HOST[:PORT[/PROTOCOL]], where HOST is a name, a wildcard, an address or a range
// of addresses (an IPv6 one in brackets when a port follows: [2001:db8::/32]:443),
// and PROTOCOL is tcp, http, https or tls. Without a port it is 443. Without a
// protocol port 443 is https, 80 is http, and any other tcp, which relays whatever
// is spoken there.
func ParseAllow(text string) (policy.Rule, error) {
	host, port, err := splitAllow(text)
	if err != nil {
		return policy.Rule{}, fmt.Errorf("--allow %s: %w", text, err)
	}
	rule := policy.Rule{ID: allowID + text, Ports: []policy.Port{port}}
	if rule.Hosts, rule.CIDRs, err = allowedHost(host); err != nil {
		return policy.Rule{}, fmt.Errorf("--allow %s: %w", text, err)
	}
	return rule, nil
}

// splitAllow splits off the port and the protocol.
func splitAllow(text string) (host string, port policy.Port, err error) {
	if strings.Contains(text, "://") {
		return "", port, errors.New("write HOST[:PORT[/PROTOCOL]], such as www.example.com:443, and not a URL")
	}
	at := strings.LastIndexByte(text, ':')
	if at < 0 || strings.Count(text, ":") > 1 && !(text[0] == '[' && text[at-1] == ']') {
		return text, policy.Port{Port: 443, Protocol: policy.ProtocolHTTPS}, nil
	}
	number, word, hasProtocol := strings.Cut(text[at+1:], "/")
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 {
		return "", port, fmt.Errorf("port %q is not a number from 1 to 65535", number)
	}
	port = policy.Port{Port: uint16(n), Protocol: protocolOf(uint16(n))}
	if hasProtocol {
		if port.Protocol, err = allowedProtocol(word); err != nil {
			return "", port, err
		}
	}
	return text[:at], port, nil
}

// protocolOf is the protocol of a port in the short form that names none.
func protocolOf(port uint16) policy.Protocol {
	switch port {
	case 443:
		return policy.ProtocolHTTPS
	case 80:
		return policy.ProtocolHTTP
	}
	return policy.ProtocolTCP
}

// allowedProtocol reads the protocol of the short form.
func allowedProtocol(word string) (policy.Protocol, error) {
	protocol, err := policy.ParseProtocol(word)
	if err != nil || !isShort(protocol) {
		return policy.ProtocolNone, fmt.Errorf("protocol %q is not one of tcp, http, https, tls", word)
	}
	return protocol, nil
}

// isShort reports whether the short form has the protocol.
func isShort(p policy.Protocol) bool {
	switch p {
	case policy.ProtocolTCP, policy.ProtocolHTTP, policy.ProtocolHTTPS, policy.ProtocolTLS:
		return true
	}
	return false
}

// allowedHost reads a name, a wildcard, an address or a range.
func allowedHost(host string) ([]names.Pattern, []netip.Prefix, error) {
	bare := host
	if strings.HasPrefix(bare, "[") && strings.HasSuffix(bare, "]") {
		bare = bare[1 : len(bare)-1]
	}
	if strings.Contains(bare, "/") {
		cidr, err := addresses.ParseCIDR(bare)
		if err != nil {
			return nil, nil, err
		}
		return nil, []netip.Prefix{cidr}, nil
	}
	if h, err := names.ParseHost(host); err == nil && h.Addr.IsValid() {
		return nil, []netip.Prefix{netip.PrefixFrom(h.Addr, h.Addr.BitLen())}, nil
	}
	pattern, err := names.ParsePattern(strings.ToLower(strings.TrimSuffix(host, ".")))
	if err != nil {
		// A name in another alphabet: the grammar of patterns has its A-labels.
		name, parseErr := names.Parse(host)
		if parseErr != nil {
			return nil, nil, err
		}
		if pattern, err = names.ExactPattern(name); err != nil {
			return nil, nil, err
		}
	}
	return []names.Pattern{pattern}, nil, nil
}

// allowForm returns the text that ParseAllow reads as just this rule; "" where the
// short form cannot say it.
func allowForm(rule *policy.Rule) string {
	plain := policy.TLS{Mode: rule.TLS.Mode}
	if len(rule.Ports) != 1 || !isShort(rule.Ports[0].Protocol) || len(rule.HTTP)+len(rule.PrivateAnswers) > 0 ||
		rule.TLS != plain || plain.Mode != "" && plain.Mode != policy.TLSAuto || len(rule.Hosts)+len(rule.CIDRs) != 1 {
		return ""
	}
	text := destinationText(rule)
	if port := rule.Ports[0]; port.Protocol != protocolOf(port.Port) {
		text += "/" + port.Protocol.String()
	}
	return text
}

// destinationText is the first destination of a rule, on its first port.
func destinationText(rule *policy.Rule) string {
	host := ""
	switch {
	case len(rule.Hosts) > 0:
		host = rule.Hosts[0].String()
	case len(rule.CIDRs) > 0:
		cidr := rule.CIDRs[0]
		host = cidr.String()
		if cidr.IsSingleIP() {
			host = cidr.Addr().String()
		}
		if cidr.Addr().Is6() {
			host = "[" + host + "]"
		}
	}
	if len(rule.Ports) == 0 {
		return host
	}
	return host + ":" + strconv.Itoa(int(rule.Ports[0].Port))
}
