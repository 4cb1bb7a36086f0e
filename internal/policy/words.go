package policy

import "strconv"

// String returns "allow" or "deny".
func (a Action) String() string {
	if a == Allow {
		return "allow"
	}
	return "deny"
}

// String returns the treatment's word in flows: "originate".
func (t Treatment) String() string {
	switch t {
	case Forward:
		return "forward"
	case Originate:
		return "originate"
	case Passthrough:
		return "passthrough"
	case Relay:
		return "relay"
	default:
		return "refuse"
	}
}

// String returns the word of flows: "http", "tls", "opaque"; "" when unseen.
func (s Sniffed) String() string {
	switch s {
	case HTTP:
		return "http"
	case ClientHello:
		return "tls"
	case Opaque:
		return "opaque"
	default:
		return ""
	}
}

// Destination returns what was decided on: "www.googleapis.com:443",
// "192.0.2.1:443", "[2001:db8::1]:443"; ":443" where nothing was named.
func (v *Verdict) Destination() string {
	host := v.Name.String()
	if host == "" && v.Addr.IsValid() {
		if host = v.Addr.String(); v.Addr.Is6() {
			host = "[" + host + "]"
		}
	}
	return host + ":" + strconv.Itoa(int(v.Port))
}

// String returns the verdict in one line, such as
// "allow www.googleapis.com:443 by egress-rule/default/googleapis (originate)" or
// "deny www.google.com:443: no-rule".
func (v Verdict) String() string {
	line := v.Action.String() + " " + v.Destination()
	if v.Action != Allow {
		return line + ": " + string(v.Reason)
	}
	if v.Rule != nil {
		line += " by " + v.Rule.ID
	}
	return line + " (" + v.Treatment.String() + ")"
}
