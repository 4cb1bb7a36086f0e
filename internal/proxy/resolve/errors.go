package resolve

import (
	"fmt"
	"net/netip"
	"strings"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/refusal"
)

// maxShown bounds the addresses that an error names.
const maxShown = 3

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
	switch reason {
	case refusal.PrivateAddress:
		return fmt.Sprintf("%s leads to %s, which is not an address of the public internet; a rule allows that with privateAnswers", subject, shown(addrs))
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
		return fmt.Sprintf("%s (%s) refused the connection", subject, shown(addrs))
	case refusal.ConnectTimeout:
		return fmt.Sprintf("%s (%s) did not answer in time", subject, shown(addrs))
	}
	return fmt.Sprintf("no connection to %s (%s)", subject, shown(addrs))
}

func shown(addrs []netip.Addr) string {
	texts := make([]string, 0, maxShown)
	for _, a := range addrs[:min(len(addrs), maxShown)] {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, ", ")
}
