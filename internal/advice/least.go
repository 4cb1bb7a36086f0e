package advice

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/addresses"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// Needs are the least rules that a set of records needs.
type Needs struct {
	// Policies are EgressPolicies that api.Validate takes, and Rules what they compile
	// to, in the same order.
	Policies []api.Object
	Rules    []policy.Rule
	// Private are the answers that are not public and that Policies consent to. Who
	// takes them over must see them: a name may have been made to lead there.
	Private []PrivateAnswer
	// Left is what no rule is proposed for.
	Left []Left
}

// PrivateAnswer is an answer of DNS that is not public.
type PrivateAnswer struct {
	Name    names.Name
	Port    uint16
	Address netip.Addr
	Denied  bool // no rule consented to it yet
}

// Left is the records of one kind that no rule is proposed for.
type Left struct {
	Record record.Record // the first of them
	Count  int
	Reason refusal.Reason
	Text   string
}

// Least returns the least rules that let through what the records tell of, for the
// workload of who, in a mesh of domain: exact names, ports and protocols, methods and
// paths where plain HTTP was seen, and addresses where addresses were dialled. What
// passed is carried as it was (but that a policy on addresses takes tcp alone); what
// was denied, as its port and first bytes suggest.
//
// Names that differ, names of the mesh, and messages that were not taken are left, and
// so is what no policy says, or cannot be allowed beside the rest.
func Least(records []record.Record, who Options, domain names.Name) Needs {
	l := &least{tiers: make(map[tierKey]*need), left: make(map[leftKey]int), private: make(map[PrivateAnswer]struct{})}
	l.options.Domain = domain
	var err error
	if l.none, err = policy.NewSet(nil, l.options); err != nil {
		return Needs{} // of no rules: it cannot be
	}
	for i := range records {
		l.add(&records[i])
	}
	var rules []policy.Rule
	for _, key := range slices.SortedFunc(maps.Keys(l.tiers), tierKey.compare) {
		rules = append(rules, l.tiers[key].rules(key)...)
	}
	for _, rule := range merged(rules) {
		plainTLS(&rule)
		if object, ok := asPolicy(&rule, &who); ok { // else verify finds what it would have allowed
			l.out.Policies, l.out.Rules = append(l.out.Policies, object), append(l.out.Rules, rule)
		}
	}
	l.verify()
	l.out.Private = slices.SortedFunc(maps.Keys(l.private), func(a, b PrivateAnswer) int {
		return cmp.Or(cmp.Compare(a.Name.String(), b.Name.String()), cmp.Compare(a.Port, b.Port), a.Address.Compare(b.Address))
	})
	return l.out
}

// least is the work of one Least.
type least struct {
	options policy.Options
	none    *policy.Set // of no rules: it says what a chain is decided on
	tiers   map[tierKey]*need
	needed  []wanted
	private map[PrivateAnswer]struct{}
	left    map[leftKey]int // where it stands in out.Left
	out     Needs
}

// wanted is a record that rules are made for.
type wanted struct {
	record *record.Record
	chain  policy.Chain
}

type leftKey struct {
	dialled string
	port    uint16
	reason  refusal.Reason
	text    string
}

// leave keeps a record that no rule is proposed for.
func (l *least) leave(r *record.Record, reason refusal.Reason, text string) {
	key := leftKey{r.Dialled, r.Port, reason, text}
	at, known := l.left[key]
	if !known {
		at = len(l.out.Left)
		l.left[key] = at
		l.out.Left = append(l.out.Left, Left{Record: *r, Reason: reason, Text: text})
	}
	l.out.Left[at].Count++
}

// add notes what a record needs.
func (l *least) add(r *record.Record) {
	if r.Direction == record.Ingress || r.Direction == record.Mesh || r.Treatment == policy.Mesh || r.Verdict == record.Pending {
		return // no rule on the way out is about it
	}
	q, ok := OfRecord(r)
	switch {
	case r.Question != "":
		l.leave(r, r.Reason, r.Reason.Text())
		return
	case !ok:
		l.leave(r, r.Reason, "the record does not say where it led")
		return
	case r.Reason.Group() == refusal.ByMessage, r.Reason == refusal.EncryptedHello, r.Reason == refusal.NoRoute:
		l.leave(r, r.Reason, r.Reason.Text())
		return
	case r.Transport != policy.TCP:
		l.leave(r, r.Reason, "rules on "+r.Transport.String()+" are not supported yet")
		return
	}
	v := l.none.Decide(&q.Chain)
	switch v.Reason {
	case refusal.NameMismatch, refusal.PortMismatch, refusal.BadHost, refusal.MeshName:
		l.leave(r, v.Reason, v.Reason.Text())
		return
	}
	if v.Name.IsZero() && (!v.Addr.IsValid() || addresses.Undialable(v.Addr)) {
		l.leave(r, refusal.PrivateAddress, special(v.Addr)+" that is never dialled")
		return
	}
	if v.Name.IsZero() && r.Treatment == policy.Originate {
		l.leave(r, refusal.ProtocolMismatch, "an EgressPolicy on addresses takes tcp alone, by which the request would not be sent over TLS: use a name")
		return
	}
	key := tierKey{name: v.Name, addr: v.Addr, port: v.Port}
	if !v.Name.IsZero() {
		key.addr = netip.Addr{}
	}
	n := l.tiers[key]
	if n == nil {
		n = &need{port: v.Port}
		l.tiers[key] = n
	}
	kind := n.add(r, &q.Chain)
	if !v.Name.IsZero() && len(q.Answers) > 0 {
		l.answer(r, key, n, kind, q.Answers[0])
	}
	l.needed = append(l.needed, wanted{r, q.Chain})
}

// answer notes where a name led, if that is not public.
func (l *least) answer(r *record.Record, key tierKey, n *need, kind kind, to netip.Addr) {
	if _, private := addresses.Special(to); !private {
		return
	}
	if addresses.Undialable(to) {
		l.leave(r, refusal.PrivateAddress, special(to)+" that is never dialled, though the name led there")
		return
	}
	n.consent(kind, to)
	l.private[PrivateAnswer{Name: key.name, Port: key.port, Address: to, Denied: r.Verdict == record.Denied}] = struct{}{}
}

// verify leaves the records that the rules do not let through.
func (l *least) verify() {
	set, err := policy.NewSet(l.out.Rules, l.options)
	for i := range l.needed {
		w := &l.needed[i]
		if err == nil {
			v := set.Decide(&w.chain)
			if v.Action == policy.Allow {
				continue
			}
			l.leave(w.record, v.Reason, "no EgressPolicy allows it beside what the other records need: "+v.Reason.Text())
			continue
		}
		l.leave(w.record, w.record.Reason, "the rules cannot be compiled: "+err.Error())
	}
}
