package advice

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
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

// MaxAllowPorts bounds the ports of one short form.
const MaxAllowPorts = 64

// ParseAllow reads the short form of a rule, as the flag --allow takes it:
// HOST[:PORT[/PROTOCOL]][,PORT[/PROTOCOL]]..., where HOST is a name, a wildcard, an
// address or a range of addresses (an IPv6 one in brackets when a port follows:
// [2001:db8::/32]:443), and PROTOCOL is tcp, http, http2, grpc, https or tls. Without a port it is
// 443. Without a protocol port 443 is https, 80 is http, and any other tcp, which relays
// whatever is spoken there. A URL of http or https without a path is read as its host
// and port.
func ParseAllow(text string) (policy.Rule, error) {
	rule, err := parseAllow(text)
	if err != nil {
		return policy.Rule{}, fmt.Errorf("--allow %s: %w", withoutPassword(text), err)
	}
	rule.ID = allowID + text
	return rule, nil
}

// withoutPassword is text as an error may say it.
func withoutPassword(text string) string {
	at := strings.LastIndexByte(text, '@')
	if at < 0 {
		return text
	}
	scheme, _, isURL := strings.Cut(text[:at], "://")
	if !isURL {
		return "…" + text[at:]
	}
	return scheme + "://…" + text[at:]
}

func parseAllow(text string) (rule policy.Rule, err error) {
	var host string
	if scheme, rest, isURL := strings.Cut(text, "://"); isURL {
		host, rule.Ports, err = allowedURL(strings.ToLower(scheme), rest)
	} else if at := strings.LastIndexByte(text, '@'); at >= 0 { // as ssh and git name it
		host, _, _ = strings.Cut(text[at+1:], ":")
		return rule, fmt.Errorf("leave the user out: a rule names where to, HOST:PORT, for ssh --allow %s:22/tcp", host)
	} else {
		host, rule.Ports, err = splitAllow(text)
	}
	if err == nil {
		rule.Hosts, rule.CIDRs, err = allowedHost(host)
	}
	if err == nil && slices.ContainsFunc(rule.Hosts, isLocalhost) {
		err = localhostError(rule.Ports[0].Port)
	}
	return rule, err
}

// isLocalhost reports whether a pattern is for names of the loopback (RFC 6761, section
// 6.3), which no rule is about: inside it is the sandbox's own.
func isLocalhost(p names.Pattern) bool {
	text := p.String()
	return text == "localhost" || strings.HasSuffix(text, ".localhost")
}

func localhostError(port uint16) error {
	return fmt.Errorf("inside, localhost is the sandbox's own loopback, which the command reaches without a rule; for port %d of this machine use --reach-host %d and connect to host.sluice.internal:%d, and to open a port of the command outside use --publish %d", port, port, port, port)
}

// splitAllow splits off the ports with their protocols.
func splitAllow(text string) (string, []policy.Port, error) {
	host, list, listed := cutPort(text)
	if !listed {
		return host, []policy.Port{{Port: 443, Protocol: policy.ProtocolHTTPS}}, nil
	}
	var ports []policy.Port
	for each := range strings.SplitSeq(list, ",") {
		port, err := allowedPort(each)
		switch {
		case err != nil:
			return "", nil, err
		case slices.ContainsFunc(ports, func(p policy.Port) bool { return p.Port == port.Port }):
			return "", nil, fmt.Errorf("port %d is given twice", port.Port)
		case len(ports) == MaxAllowPorts:
			return "", nil, fmt.Errorf("more than %d ports", MaxAllowPorts)
		}
		ports = append(ports, port)
	}
	return host, ports, nil
}

// cutPort splits a host from what stands behind its colon. The colons of an IPv6
// address without brackets are its own.
func cutPort(text string) (host, port string, ok bool) {
	at := strings.LastIndexByte(text, ':')
	if at < 0 || strings.Count(text, ":") > 1 && !(text[0] == '[' && text[at-1] == ']') {
		return text, "", false
	}
	return text[:at], text[at+1:], true
}

// allowedPort reads PORT[/PROTOCOL].
func allowedPort(text string) (policy.Port, error) {
	number, word, hasProtocol := strings.Cut(text, "/")
	n, ok := names.ParsePort(number)
	if !ok {
		return policy.Port{}, fmt.Errorf("port %q is not a number from 1 to 65535", number)
	}
	if !hasProtocol {
		return policy.Port{Port: n, Protocol: protocolOf(n)}, nil
	}
	protocol, err := allowedProtocol(word)
	return policy.Port{Port: n, Protocol: protocol}, err
}

// schemePorts are the ports of the schemes that people write in front of what is no web
// server (IANA's registries of URI schemes and of ports).
var schemePorts = map[string]string{
	"ssh": "22", "git": "9418", "ftp": "21", "smtp": "25", "imap": "143", "ldap": "389", "ldaps": "636",
	"postgres": "5432", "postgresql": "5432", "mysql": "3306", "mongodb": "27017", "redis": "6379", "rediss": "6379",
	"amqp": "5672", "amqps": "5671", "mqtt": "1883", "nats": "4222",
}

// allowedURL reads a URL as far as a rule without a path can say it, and otherwise says
// how to write it.
func allowedURL(scheme, rest string) (string, []policy.Port, error) {
	authority, path := rest, ""
	if at := strings.IndexAny(rest, "/?#"); at >= 0 {
		authority, path = rest[:at], rest[at:]
	}
	host, number, hasPort := cutPort(authority)
	if strings.Contains(authority, "@") {
		return "", nil, errors.New("leave the user and password of the URL out: a rule names where to, HOST:PORT")
	}
	port := policy.Port{Port: 443, Protocol: policy.ProtocolHTTPS}
	switch scheme {
	case "https", "wss":
	case "http", "ws":
		port = policy.Port{Port: 80, Protocol: policy.ProtocolHTTP}
	default:
		if !hasPort {
			number = schemePorts[scheme]
		}
		return "", nil, fmt.Errorf("write HOST:PORT/tcp and not a URL of %s: --allow %s:%s/tcp", scheme, host, cmp.Or(number, "PORT"))
	}
	if scheme == "ws" || scheme == "wss" { // a request of http or https that asks for an upgrade: no tcp is needed
		if !hasPort {
			return "", nil, fmt.Errorf("write HOST:PORT and not a URL of %s: --allow %s:%d", scheme, host, port.Port)
		}
		return "", nil, fmt.Errorf("write HOST:PORT/%s and not a URL of %s: --allow %s:%s/%[1]s", port.Protocol, scheme, host, number)
	}
	if path != "" && path != "/" {
		return "", nil, fmt.Errorf("--allow opens a host and not a path: write %s://%s/, or a rule with http.paths in a file of --rules", scheme, authority)
	}
	if hasPort {
		own, ok := names.ParsePort(number)
		if !ok {
			return "", nil, fmt.Errorf("port %q is not a number from 1 to 65535", number)
		}
		port.Port = own
	}
	return host, []policy.Port{port}, nil
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
		return policy.ProtocolNone, fmt.Errorf("protocol %q is not one of tcp, http, http2, grpc, https, tls", word)
	}
	return protocol, nil
}

// isShort reports whether the short form has the protocol.
func isShort(p policy.Protocol) bool {
	switch p {
	case policy.ProtocolTCP, policy.ProtocolHTTP, policy.ProtocolHTTP2, policy.ProtocolGRPC, policy.ProtocolHTTPS, policy.ProtocolTLS:
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
	if len(rule.Ports) != 1 || rule.Ports[0] != (policy.Port{Port: rule.Ports[0].Port, Protocol: rule.Ports[0].Protocol}) || !isShort(rule.Ports[0].Protocol) || len(rule.HTTP)+len(rule.PrivateAnswers) > 0 ||
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
