// Package httpfield says which header fields of HTTP may be changed by whoever carries a
// message, and what may stand in them. Validation, route rules and the HTTP engine ask it.
// It never changes a message.
package httpfield

import (
	"fmt"
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
	for i := range len(authority) {
		c := authority[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(".-_:[]", c) >= 0) {
			return fmt.Errorf("authority %q is not a host with or without a port", authority)
		}
	}
	if authority == "" || len(authority) > 253+len(":65535") || authority[0] == ':' {
		return fmt.Errorf("authority %q is not a host with or without a port", authority)
	}
	return nil
}
