package resolve

import (
	"fmt"
	"net/http"
	"net/netip"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
)

// Why a name was not resolved or an address not connected to, beside
// policy.PrivateAddress and policy.OutsideCIDR.
const (
	NoSuchName      policy.Reason = "no-such-name"    // DNS says that the name does not exist
	NoAddress       policy.Reason = "no-address"      // it exists and has no address
	ResolveFailed   policy.Reason = "resolve-failed"  // no server gave a usable answer
	TooManyNames    policy.Reason = "too-many-names"  // the rate of new names is used up
	ConnectRefused  policy.Reason = "connect-refused" // the other side said no
	ConnectTimedOut policy.Reason = "connect-timeout"
	ConnectFailed   policy.Reason = "connect-failed" // any other error of connect
)

// Error says why a Dial or a Resolve failed. Callers find it with errors.As.
type Error struct {
	reason policy.Reason
	name   names.Name   // zero when an address was dialled
	addrs  []netip.Addr // that were refused or tried, at most maxShown
	err    error        // may be nil
}

const maxShown = 3

// Reason is the stable code of the failure.
func (e *Error) Reason() string { return string(e.reason) }

// Status is the HTTP status that tells a client of the failure.
func (e *Error) Status() int {
	switch e.reason {
	case policy.PrivateAddress, policy.OutsideCIDR:
		return http.StatusForbidden
	case ResolveFailed, TooManyNames:
		return http.StatusServiceUnavailable
	case ConnectTimedOut:
		return http.StatusGatewayTimeout
	}
	return http.StatusBadGateway
}

// Denied reports whether the destination was refused, rather than out of order.
func (e *Error) Denied() bool { return e.Status() == http.StatusForbidden }

// Text is a sentence for people.
func (e *Error) Text() string {
	switch e.reason {
	case policy.PrivateAddress:
		return fmt.Sprintf("%s leads to %s, which is not an address of the public internet; a rule allows that with privateAnswers", e.subject(), e.shown())
	case policy.OutsideCIDR:
		return fmt.Sprintf("%s leads to %s, outside the addresses that the rules allow", e.subject(), e.shown())
	case NoSuchName:
		return fmt.Sprintf("%s does not exist in DNS", e.subject())
	case NoAddress:
		return fmt.Sprintf("%s has no address in DNS", e.subject())
	case ResolveFailed:
		return fmt.Sprintf("DNS gave no answer for %s", e.subject())
	case TooManyNames:
		return "too many new names under a wildcard in too short a time"
	case ConnectRefused:
		return fmt.Sprintf("%s (%s) refused the connection", e.subject(), e.shown())
	case ConnectTimedOut:
		return fmt.Sprintf("%s (%s) did not answer in time", e.subject(), e.shown())
	}
	return fmt.Sprintf("no connection to %s (%s)", e.subject(), e.shown())
}

func (e *Error) subject() string {
	if !e.name.IsZero() {
		return e.name.String()
	}
	return "the address"
}

func (e *Error) shown() string {
	text := ""
	for i, a := range e.addrs {
		if i > 0 {
			text += ", "
		}
		text += a.String()
	}
	return text
}

func (e *Error) Error() string {
	if e.err != nil {
		return fmt.Sprintf("%s: %v", e.Text(), e.err)
	}
	return e.Text()
}

func (e *Error) Unwrap() error { return e.err }
