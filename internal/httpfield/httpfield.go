// Package httpfield says which header fields of HTTP may be changed by whoever carries a
// message, and what may stand in them. Validation, route rules and the HTTP engine ask it.
// It never changes a message.
package httpfield

import (
	"fmt"
	"net/netip"
	"strings"
)

// Editable reports whether the field of that name may be removed, set or appended: not
// where it frames the message, names its destination or is for one hop alone (RFC 9110
// section 7.6.1).
func Editable(lower string) bool {
	switch lower {
	case "", "host", "content-length", "content_length", "transfer-encoding", "transfer_encoding",
		"connection", "proxy-connection", "keep-alive", "te", "trailer", "upgrade", "expect",
		"http2-settings", "proxy-authenticate", "proxy-authorization":
		return false
	}
	return true
}

// CheckAppended refuses a field that a rule cannot append to a request.
func CheckAppended(lower, value string) error {
	switch {
	case !Editable(lower):
		return fmt.Errorf("header %q cannot be appended: it frames the request, says where it goes or is for one hop alone", lower)
	case strings.HasPrefix(lower, "x-sluice"):
		return fmt.Errorf("header %q cannot be appended: Sluice alone says it", lower)
	}
	for i := range len(lower) {
		if c := lower[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return fmt.Errorf("header %q is not a valid name in lower case", lower)
		}
	}
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return fmt.Errorf("header %q has a value with a control byte", lower)
		}
	}
	return nil
}

// CheckAuthority refuses what cannot stand in a Host field: a name or an address, with or
// without a port.
func CheckAuthority(authority string) error {
	if len(authority) > 253+len(":65535") || strings.Trim(authority, letters+digits+".-_:[]") != "" || !IsAuthority(authority) {
		return fmt.Errorf("authority %q is not a host with or without a port", authority)
	}
	return nil
}

const (
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits  = "0123456789"
)

// IsAuthority reports whether a text is one host, by name or as an IPv6 address in brackets with
// or without a zone (RFC 3986, section 3.2.2, and RFC 6874), and at most one port of digits. A
// name has no escapes: no zone of the DNS does.
func IsAuthority(text string) bool {
	name, port := text, ""
	if at := strings.LastIndexByte(text, ':'); at > strings.LastIndexByte(text, ']') {
		if name, port = text[:at], text[at+1:]; port == "" || len(port) > 5 {
			return false
		}
	}
	for i := range len(port) {
		if port[i] < '0' || port[i] > '9' {
			return false
		}
	}
	if name == "" || name[0] != '[' {
		return isName(name)
	}
	if name[len(name)-1] != ']' {
		return false
	}
	name = name[1 : len(name)-1]
	if at := strings.IndexByte(name, '%'); at >= 0 {
		zone, escaped := strings.CutPrefix(name[at:], "%25")
		if !escaped || !isName(zone) {
			return false
		}
		name = name[:at]
	}
	address, err := netip.ParseAddr(name)
	return err == nil && address.Is6()
}

// isName reports whether a text is the name of a host (reg-name of RFC 3986 without escapes).
func isName(text string) bool {
	for i := range len(text) {
		c := text[i]
		if !('a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("-._~!$&'()*+,;=", c) >= 0) {
			return false
		}
	}
	return text != ""
}
