package resolve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/refusal"
)

// maxShown bounds the addresses that an error names; of the others it says how many.
const maxShown = 8

// failed says why a name was not resolved or an address not connected to: name is
// zero when an address was dialled, addrs are those that were refused or tried.
func failed(reason refusal.Reason, name names.Name, addrs []netip.Addr, err error) *refusal.Error {
	return &refusal.Error{Reason: reason, Text: sentence(reason, name, addrs), Err: err}
}

func sentence(reason refusal.Reason, name names.Name, addrs []netip.Addr) string {
	subject := "the address"
	if !name.IsZero() {
		subject = name.String()
	}
	tried := subject
	if len(addrs) > 0 {
		tried = fmt.Sprintf("%s (%s)", subject, shown(addrs))
	}
	switch reason {
	case refusal.PrivateAddress:
		which := "which is not an address"
		if len(addrs) > 1 {
			which = "which are not addresses"
		}
		return fmt.Sprintf("%s leads to %s, %s of the public internet; a rule allows that with privateAnswers", subject, shown(addrs), which)
	case refusal.OutsideCIDR:
		return fmt.Sprintf("%s leads to %s, outside the addresses that the rules allow", subject, shown(addrs))
	case refusal.NoSuchName:
		return subject + " does not exist in DNS"
	case refusal.NoAddress:
		return subject + " has no address in DNS"
	case refusal.ResolveFailed:
		return "DNS gave no answer for " + subject
	case refusal.TooManyNames:
		return "too many new names under a wildcard in too short a time"
	case refusal.ConnectRefused:
		return tried + " refused the connection"
	case refusal.ConnectTimeout:
		return tried + " did not answer in time"
	}
	return "no connection to " + tried
}

// shown lists addresses: "a", "a and b", "a, b and 3 more".
func shown(addrs []netip.Addr) string {
	texts := make([]string, 0, maxShown+1)
	for _, a := range addrs[:min(len(addrs), maxShown)] {
		texts = append(texts, a.String())
	}
	if more := len(addrs) - len(texts); more > 0 {
		texts = append(texts, fmt.Sprintf("%d more", more))
	}
	if last := len(texts) - 1; last > 0 {
		return strings.Join(texts[:last], ", ") + " and " + texts[last]
	}
	return strings.Join(texts, "")
}

// failure is what became of one address.
type failure struct {
	to  netip.AddrPort
	err error
}

// raceError makes one error of all attempts, of which there is at least one: the most
// telling reason leads, and whatever else was tried is named behind it.
func raceError(t Target, failures []failure) error {
	type group struct {
		reason refusal.Reason
		word   string // what became of these addresses, shortly
		first  *refusal.Error
		addrs  []netip.Addr
	}
	var groups []*group
	for _, f := range failures {
		var own *refusal.Error
		if !errors.As(f.err, &own) {
			own = &refusal.Error{Reason: reasonOf(f.err), Err: f.err}
		}
		word := wordOf(own)
		at := slices.IndexFunc(groups, func(g *group) bool { return g.reason == own.Reason && g.word == word })
		if at < 0 {
			first := *own
			if !first.Addr.IsValid() {
				first.Addr = f.to
			}
			at, groups = len(groups), append(groups, &group{own.Reason, word, &first, nil})
		}
		if a := f.to.Addr(); !slices.Contains(groups[at].addrs, a) {
			groups[at].addrs = append(groups[at].addrs, a)
		}
	}
	slices.SortStableFunc(groups, func(a, b *group) int { return cmp.Compare(rank(a.reason), rank(b.reason)) })
	lead := groups[0]
	var others []string
	if isProof(lead.reason) { // its text names one server
		if rest := lead.addrs[1:]; len(rest) > 0 {
			others = append(others, fmt.Sprintf("%s (%s)", shown(rest), lead.word))
		}
	} else {
		lead.first.Text = sentence(lead.reason, t.Name, lead.addrs)
	}
	for _, g := range groups[1:] {
		others = append(others, fmt.Sprintf("%s (%s)", shown(g.addrs), g.word))
	}
	if len(others) > 0 {
		lead.first.Err = alsoTried{lead.first.Err, strings.Join(others, "; ")}
	}
	return lead.first
}

// alsoTried adds the other addresses to what happened at the first.
type alsoTried struct {
	error
	others string
}

func (e alsoTried) Error() string {
	if e.error == nil {
		return "also tried " + e.others
	}
	return e.error.Error() + "; also tried " + e.others
}

func (e alsoTried) Unwrap() error { return e.error }

// rank orders reasons by what they tell: a server that is not who it should be, one that
// answered, one that did not, a network that does not lead there, an address that was
// not let through.
func rank(reason refusal.Reason) int {
	order := []refusal.Reason{refusal.CertificateFail, refusal.EncryptedHello, refusal.UpstreamTLS, refusal.ConnectRefused, refusal.ConnectTimeout,
		refusal.ConnectFailed, refusal.OutsideCIDR, refusal.PrivateAddress}
	if at := slices.Index(order, reason); at >= 0 {
		return at
	}
	return slices.Index(order, refusal.ConnectFailed)
}

// isProof reports whether a reason is about a server that was reached.
func isProof(reason refusal.Reason) bool { return rank(reason) < rank(refusal.ConnectRefused) }

// wordOf says in a few words what became of an address.
func wordOf(e *refusal.Error) string {
	switch e.Reason {
	case refusal.CertificateFail:
		return "did not prove its name"
	case refusal.EncryptedHello:
		return "takes encrypted ClientHellos"
	case refusal.UpstreamTLS:
		return "TLS handshake failed"
	case refusal.ConnectRefused:
		return "refused"
	case refusal.ConnectTimeout:
		return "did not answer in time"
	case refusal.PrivateAddress, refusal.OutsideCIDR:
		return "not allowed"
	}
	if errors.Is(e.Err, syscall.ENETUNREACH) || errors.Is(e.Err, syscall.EHOSTUNREACH) {
		return "unreachable"
	}
	return "failed"
}

func reasonOf(err error) refusal.Reason {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return refusal.ConnectRefused
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return refusal.ConnectTimeout
	}
	return refusal.ConnectFailed
}
