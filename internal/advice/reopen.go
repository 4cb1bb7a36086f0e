package advice

import (
	"errors"
	"fmt"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/wire"
)

// Reopened is a decision that was made, explained afterwards.
type Reopened struct {
	Title string
	Then  Explanation
	// Now is what the rules of now say, where that is something else, or where it is not
	// known whether those rules decided then.
	Now *Explanation
	// ByRules says that rules decide about it, as about no message that is malformed.
	ByRules bool
	// Since says what has changed; "" where the rules of now are not known.
	Since string
}

// Reopen explains what a record tells of, as Answer explains a question. then is what
// was in force when it was decided, and now what is: the same one where nothing changed,
// nil where it is not known. What neither says is told as the record holds it.
func Reopen(r *record.Record, then, now *wire.Snapshot, workload wire.Workload) (Reopened, error) {
	q, ok := OfRecord(r)
	opened := Reopened{Title: q.Title, Then: ofRecord(r, &q)}
	if !ok {
		opened.Title = "a request to " + printable(opened.Then.Destination)
		if r.Question != "" {
			opened.Title = "a question to DNS for the " + r.Question + " records of " + printable(r.Dialled)
		}
	}
	if !ok || r.Reason.Group() == refusal.ByMessage || r.Verdict == record.Pending {
		return opened, nil
	}
	opened.ByRules = true
	again, err := decideAgain(r, q, then, workload)
	if err != nil {
		return opened, err
	}
	today := again
	if then == nil || now == nil || then.Version != now.Version {
		if today, err = decideAgain(r, q, now, workload); err != nil {
			return opened, err
		}
	}
	switch {
	case again != nil && saysTheSame(again, r):
		opened.Then = *again
	case again == nil && today != nil && saysTheSame(today, r):
		opened.Then = *today
	}
	if today != nil && !saysTheSame(today, r) {
		opened.Now = today
	}
	opened.Since = since(r, &opened.Then, again, today, then, now)
	return opened, nil
}

// decideAgain decides what a record tells of by the rules of a snapshot; nil without one.
func decideAgain(r *record.Record, q Question, snapshot *wire.Snapshot, workload wire.Workload) (*Explanation, error) {
	if snapshot == nil {
		return nil, nil
	}
	e, err := Answer(q, snapshot, workload)
	if errors.As(err, new(*QuestionError)) { // the name is a service of the mesh by these
		q.Answers = nil
		e, err = Answer(q, snapshot, workload)
	}
	if err != nil {
		return nil, err
	}
	if foundLater(r.Reason) && e.Passes() && r.Direction != record.Mesh {
		set, err := setOf(snapshot)
		if err != nil {
			return nil, err
		}
		v := set.Decide(&q.Chain)
		e = Explain(set, &q.Chain, v.Denied(r.Reason), Options{Namespace: workload.Namespace, Labels: workload.Labels})
	}
	return &e, nil
}

// foundLater reports whether a denial is found only once something was done about
// what the rules allow: no question asks for it.
func foundLater(reason refusal.Reason) bool {
	return reason == refusal.CertificateFail || reason == refusal.EncryptedHello || reason == refusal.ObligationUnknown
}

// saysTheSame reports whether an explanation is of what the record tells.
func saysTheSame(e *Explanation, r *record.Record) bool {
	if e.Verdict == VerdictError {
		return r.Verdict == record.Failed
	}
	if e.Verdict != verdictOf(r) {
		return false
	}
	if e.Verdict == policy.Deny.String() {
		return e.Reason == r.Reason && (r.Rule == "" || e.Closest == r.Rule)
	}
	return e.Rule == r.Rule || r.Direction == record.Mesh
}

// verdictOf is what was decided: what was allowed and then failed was allowed.
func verdictOf(r *record.Record) string {
	switch r.Verdict {
	case record.Failed:
		if r.Rule == policy.AuditRule {
			return policy.Audit.String()
		}
		return policy.Allow.String()
	case record.Allowed:
		return policy.Allow.String()
	case record.Audited:
		return policy.Audit.String()
	case record.Denied:
		return policy.Deny.String()
	}
	return "pending"
}

// ofRecord says what the record alone tells.
func ofRecord(r *record.Record, q *Question) Explanation {
	var none policy.Set // by which nothing is allowed: it says what was decided on
	v := none.Decide(&q.Chain)
	v.Reason, v.Treatment, v.Rule = r.Reason, r.Treatment, nil
	if r.Rule != "" {
		v.Rule = &policy.Rule{ID: r.Rule}
	}
	a := &asked{set: &none, chain: &q.Chain, verdict: &v}
	e := Explanation{
		Verdict: verdictOf(r), Destination: v.Destination(), Treatment: r.Treatment.String(), Proofs: a.proofs(),
	}
	if e.Destination == ":0" {
		e.Destination = r.Host // of a request from outside
	}
	switch e.Verdict {
	case policy.Deny.String():
		e.Reason, e.Closest = r.Reason, r.Rule
		e.Sentence = a.denialOfRecord(r, q)
	case policy.Audit.String():
		e.Reason, e.Rule = refusal.NoRule, r.Rule
		e.Sentence = fmt.Sprintf("No rule allowed %s; it passed because outboundDefault is Audit.", e.Destination)
	case policy.Allow.String():
		e.Rule = r.Rule
		e.Sentence = e.Destination + " was allowed."
	default:
		e.Sentence = "Nothing is decided yet."
	}
	return e
}

// denialOfRecord is the reason, with the names of the case where the record has all
// that the sentence needs.
func (a *asked) denialOfRecord(r *record.Record, q *Question) string {
	switch r.Reason {
	case refusal.NoRule, refusal.NameMismatch, refusal.PortMismatch, refusal.AddressLiteral, refusal.MethodOrPath, refusal.UpgradeForbidden, refusal.SchemeMismatch:
		return a.denial()
	case refusal.PrivateAddress, refusal.OutsideCIDR:
		if len(q.Answers) > 0 {
			a.Refused = q.Answers[0]
		}
		return a.denial()
	}
	if (r.Reason.Group() != refusal.ByRule || r.Reason == refusal.NoRoute) && r.Detail != "" {
		return printable(r.Detail) // what was wrong with the message
	}
	return r.Reason.Text()
}
