package advice

import (
	"net/netip"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/refusal"
)

// Answered is what the dialer would do with one answer of DNS.
type Answered struct {
	Address netip.Addr     `json:"address"`
	Reason  refusal.Reason `json:"reason,omitempty"` // for which it would not be dialled
	Text    string         `json:"text"`
}

// outcome is what a connection comes to.
type outcome struct {
	verdict policy.Verdict
	answers []Answered   // one for each answer that was asked about and came to be judged
	refused []netip.Addr // of a denial by the answers
}

// follow goes the way of a connection through a proxy: what may be said at connect,
// what is decided, and which answers of DNS may be dialled. Each step is the call
// that the proxy makes.
func follow(s *policy.Set, c *policy.Chain, answers []netip.Addr) outcome {
	if !s.AtConnect(c.Transport, c.Port, c.Dialled, c.Addr).ServerFirst {
		return dial(s.Decide(c), answers)
	}
	// The server may speak first: it is dialled before the client has said anything,
	// and what the client then says must allow that very address.
	first := policy.Chain{Source: c.Source, Transport: c.Transport, Port: c.Port, Dialled: c.Dialled, Addr: c.Addr}
	o := dial(s.Decide(&first), answers)
	if !o.verdict.Passes() {
		return o
	}
	if c.Dialled.IsZero() {
		answers = []netip.Addr{c.Addr.Unmap()}
	}
	return dial(s.Decide(c), answers)
}

// dial judges the answers as the dialer does. Without answers, or where a verdict is
// about an address, there is nothing left to judge.
func dial(v policy.Verdict, answers []netip.Addr) outcome {
	o := outcome{verdict: v}
	if !v.Passes() || v.Name.IsZero() || len(answers) == 0 {
		return o
	}
	for _, a := range answers {
		reason := v.Consent.Judge(a)
		o.answers = append(o.answers, Answered{Address: a, Reason: reason, Text: answerText(a, reason)})
	}
	allowed, reason, refused := v.Consent.Sift(answers)
	if len(allowed) == 0 {
		o.verdict, o.refused = v.Denied(reason), refused
	}
	return o
}

// answerText says what becomes of an answer.
func answerText(a netip.Addr, reason refusal.Reason) string {
	switch reason {
	case "":
		return "may be dialled"
	case refusal.PrivateAddress:
		return "is not dialled: " + special(a) + " that no rule consents to"
	}
	return "is not dialled: outside the addresses that the rules allow"
}
