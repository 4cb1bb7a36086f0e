package carry

import (
	"encoding/json"
	"strings"

	"sluice.dev/sluice/internal/advice"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/httpproxy"
	"sluice.dev/sluice/internal/proxy/snapshot"
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

// Deny answers a request that a verdict on its chain denies.
func (r *Requests) Deny(s *snapshot.Snapshot, chain *policy.Chain, v *policy.Verdict) httpproxy.Direction {
	e := explanation{Error: "denied", Reason: string(v.Reason), ID: r.id.String(), Text: v.Reason.Text()}
	if r.kit.TellAll {
		full := advice.Explain(s.Policy, chain, *v, r.kit.For)
		e.Text, e.Closest = full.Sentence, full.Closest
		if full.Remedy != nil {
			e.Remedy, e.Allow, e.Rule = full.Remedy.Sentence, full.Remedy.Allow, full.Remedy.YAML
		}
	}
	body, err := json.Marshal(e)
	if err != nil {
		body = nil // cannot be: strings alone
	}
	return httpproxy.Direction{ID: uint64(r.id), Reply: &httpproxy.Reply{
		Status: v.Reason.Status(), Reason: e.Reason, Text: e.text(), JSON: body,
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
