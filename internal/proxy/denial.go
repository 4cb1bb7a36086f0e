package proxy

import (
	"encoding/json"
	"strings"

	"sluice.dev/sluice/internal/advice"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/httpproxy"
	"sluice.dev/sluice/internal/proxy/sniff"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// explanation is what a denied workload is told, as JSON.
type explanation struct {
	Error   string `json:"error"`
	Reason  string `json:"reason"`
	ID      string `json:"id"`
	Text    string `json:"text"`
	Closest string `json:"closest,omitempty"`
	Remedy  string `json:"remedy,omitempty"` // what to change, as a sentence
	Allow   string `json:"allow,omitempty"`
	Rule    string `json:"rule,omitempty"` // YAML, ready to paste
}

// refuse answers a request that a verdict denies.
func (c *connection) refuse(v policy.Verdict) httpproxy.Direction {
	f := &c.requests.account
	e := explanation{Error: "denied", Reason: string(v.Reason), ID: f.ID.String(), Text: v.Reason.Text()}
	if c.workload.proxy.config.TellAll {
		full := advice.Explain(c.snapshot.Policy, &c.chain, v, c.workload.explainOptions())
		e.Text, e.Closest = full.Sentence, full.Closest
		if full.Remedy != nil {
			e.Remedy, e.Allow, e.Rule = full.Remedy.Sentence, full.Remedy.Allow, full.Remedy.YAML
		}
	}
	body, err := json.Marshal(e)
	if err != nil {
		body = nil // cannot be: strings alone
	}
	return httpproxy.Direction{ID: uint64(f.ID), Reply: &httpproxy.Reply{
		Status: 403, Reason: e.Reason, Text: e.text(), JSON: body,
	}}
}

// text is the explanation for people; the engine adds the reason and the id.
func (e explanation) text() string {
	var b strings.Builder
	b.WriteString("Sluice denied this request: " + e.Text + "\n")
	if e.Closest != "" {
		b.WriteString("closest rule: " + e.Closest + "\n")
	}
	if e.Rule != "" {
		b.WriteString("This rule would allow it:\n\n" + e.Rule)
	} else if e.Remedy != "" {
		b.WriteString(e.Remedy + "\n")
	}
	return b.String()
}

// reply answers a request ourselves.
func (c *connection) reply(status int, reason, text string) httpproxy.Direction {
	return httpproxy.Direction{ID: uint64(c.requests.account.ID), Reply: &httpproxy.Reply{Status: status, Reason: reason, Text: text}}
}

// deny ends a connection that a verdict denies in a way that its client
// understands: an alert on TLS, a reset elsewhere.
func (c *connection) deny(f *record.Record, v policy.Verdict, seen sniff.Result) {
	f.Verdict, f.Reason = record.Denied, v.Reason
	if v.Rule != nil {
		f.Rule = v.Rule.ID
	}
	if seen.Err != nil {
		sniff.Refuse(c.down, seen.Err.Alert())
		return
	}
	c.hangUp(v.Reason)
}

func (c *connection) hangUp(reason refusal.Reason) {
	if c.chain.Sniffed != policy.ClientHello {
		reset(c.down)
		return
	}
	sniff.Refuse(c.down, sniff.AlertCode(reason.Alert()))
}

// fail closes the account of a connection that was allowed and could not be
// carried. A dial that found the destination forbidden is a denial.
func (c *connection) fail(f *record.Record, err error) {
	why := refusal.Of(err)
	f.Fail(why)
	c.hangUp(why.Reason)
}
