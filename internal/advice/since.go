package advice

import (
	"cmp"
	"fmt"
	"reflect"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/route"
	"sluice.dev/sluice/internal/wire"
)

// since says how the rules of now differ about a decision from those that made it: told is
// what was decided, again what those that were in force say of it when they are asked again,
// and today what those of now say, nil where they are not known.
func since(r *record.Record, told, again, today *Explanation, then, now *wire.Snapshot) string {
	text := ""
	if again != nil && !saysTheSame(again, r) {
		text = fmt.Sprintf("Asked again, the rules of then say that it is %s: what it turned on is not all in the record. ", participle(again))
	}
	switch {
	case today == nil:
	case again != nil && then.Version == now.Version:
		text += "The rules are still those that decided."
	case saysTheSame(today, r) && then == nil:
		text += fmt.Sprintf("It was %s, and today's rules say the same.", participle(told))
	case saysTheSame(today, r):
		text += fmt.Sprintf("The rules have changed since, and say the same of it: it is %s.", participle(today))
	default:
		text += fmt.Sprintf("Then it was %s; by today's rules it is %s%s.", participle(told), participle(today), changed(told, today, then, now))
	}
	if id := followedBy(r); id != "" && today != nil && then != nil && then.Version != now.Version {
		before, was := routeOf(then, id)
		switch after, is := routeOf(now, id); {
		case was && !is:
			text += " The route rule that it followed, " + id + ", is gone."
		case was && !reflect.DeepEqual(before, after):
			text += " The route rule that it followed, " + id + ", was changed since."
		}
	}
	return text
}

// followedBy is the route rule that a request followed; "" for none.
func followedBy(r *record.Record) string {
	if r.Direction == record.Mesh {
		return cmp.Or(r.Route, r.Rule)
	}
	return r.Route
}

// routeOf finds a route rule by its ID.
func routeOf(snapshot *wire.Snapshot, id string) (*route.Rule, bool) {
	if snapshot.Routes == nil {
		return nil, false
	}
	for _, all := range [][]route.Rules{snapshot.Routes.Services, snapshot.Routes.Hosts} {
		for i := range all {
			for j := range all[i].Rules {
				if all[i].Rules[j].ID == id {
					return &all[i].Rules[j], true
				}
			}
		}
	}
	return nil, false
}

// participle is a verdict in a sentence: "allowed by RULE".
func participle(e *Explanation) string {
	switch e.Verdict {
	case policy.Allow.String():
		if e.Rule == "" {
			return "allowed"
		}
		return "allowed by " + e.Rule
	case policy.Audit.String():
		return "let pass because outboundDefault is Audit"
	case policy.Deny.String():
		return fmt.Sprintf("denied (%s)", e.Reason)
	}
	return fmt.Sprintf("not carried (%s)", e.Reason)
}

// changed says what became of the rule on which the difference rests, where both
// snapshots are known.
func changed(told, today *Explanation, then, now *wire.Snapshot) string {
	if then == nil || now == nil {
		return ""
	}
	for _, id := range []string{today.Rule, told.Rule, today.Closest, told.Closest} {
		if id == "" || id == policy.AuditRule {
			continue
		}
		before, was := ruleOf(then, id)
		after, is := ruleOf(now, id)
		switch {
		case is && !was:
			return ": " + id + " has come since"
		case was && !is:
			return ": " + id + " is gone"
		case was && is && !reflect.DeepEqual(before, after):
			return ": " + id + " was changed since"
		}
	}
	return ""
}

// ruleOf finds a rule of egress by its ID.
func ruleOf(snapshot *wire.Snapshot, id string) (*policy.Rule, bool) {
	for _, part := range snapshot.Policies {
		for i := range part.Rules {
			if part.Rules[i].ID == id {
				return &part.Rules[i], true
			}
		}
	}
	return nil, false
}
