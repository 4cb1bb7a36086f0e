// Package refusal names every reason for which a connection or request does not
// reach its destination, and holds the one error that carries a reason. Policy,
// the dial, the proof and the HTTP engine make them; records, answers to clients
// and reports read them. It never decides, and nobody compares its texts.
package refusal

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Error says why something was refused or failed. It is found in a chain of
// errors by Of.
type Error struct {
	Reason Reason
	Text   string         // a sentence for people with the names of the case; "" is Reason.Text()
	Err    error          // what the layer below said; may be nil
	Addr   netip.AddrPort // that was tried or refused, the first of several; zero where it did not come to that
}

// New returns an Error without a cause.
func New(reason Reason, text string) *Error { return &Error{Reason: reason, Text: text} }

// Server returns the Error of a server that was reached for TLS: with CertificateFail it
// did not prove to be who it was called, with any other reason there was no handshake.
// TLS that we originate and TLS that is passed through word it alike.
func Server(reason Reason, at netip.AddrPort, called string, err error) *Error {
	e := server(reason, "at "+at.String(), at.String(), called, err)
	e.Addr = at
	return e
}

// ServerBehind is Server for one that was reached through a proxy.
func ServerBehind(reason Reason, proxy, called string, err error) *Error {
	return server(reason, "behind "+proxy, "the server behind "+proxy, called, err)
}

func server(reason Reason, where, place, called string, err error) *Error {
	var waited net.Error
	if errors.As(err, &waited) && waited.Timeout() {
		err = errSilent{err}
	}
	text := fmt.Sprintf("TLS handshake with %s for %s", place, called)
	if reason == CertificateFail {
		text = fmt.Sprintf("the server %s did not prove to be %s", where, called)
	}
	return &Error{Reason: reason, Text: text, Err: err}
}

// errSilent words a time-out.
type errSilent struct{ error }

func (errSilent) Error() string   { return "it did not answer in time" }
func (e errSilent) Unwrap() error { return e.error }

// Denied reports whether a rule forbids it, rather than that it could not be done.
func (e *Error) Denied() bool { return e.Reason.Denied() }

// Error returns the sentence and what the layer below said.
func (e *Error) Error() string {
	text := e.Text
	if text == "" {
		text = e.Reason.Text()
	}
	if e.Err != nil {
		text = strings.TrimSuffix(text, ".") + ": " + e.Err.Error()
	}
	return text
}

// Tried returns the address that was tried or refused, as e or a layer below says
// it; zero where none was.
func (e *Error) Tried() netip.AddrPort {
	for below := e; ; {
		if below.Addr.IsValid() {
			return below.Addr
		}
		if !errors.As(below.Err, &below) {
			return netip.AddrPort{}
		}
	}
}

// Unwrap returns what the layer below said.
func (e *Error) Unwrap() error { return e.Err }

// Of returns the Error in err's chain. An err without one is Internal: whoever can
// fail in another way says so.
func Of(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Reason: Internal, Err: err}
}
