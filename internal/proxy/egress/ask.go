package egress

import (
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/proxy/resolve"
)

// ServicesPerMinute is how many new services, which are asked for by SRV, one workload may
// have looked up of hosts that rules spell out: the name of a service is the workload's to
// choose, 15 letters that reach whoever answers for the host.
const ServicesPerMinute = 10

// AskingServices is Asking for SRV records of services at host.
func (w *Way) AskingServices(set *policy.Set, host names.Name) (limit *resolve.Limit, allowed bool) {
	limit, allowed = w.Asking(set, host)
	if allowed && limit == nil {
		limit = w.services
	}
	return limit, allowed
}

// Asking returns whether DNS outside may be asked for n before anybody dials it, and
// within which limit: the one of a dial.
func (w *Way) Asking(set *policy.Set, n names.Name) (limit *resolve.Limit, allowed bool) {
	rule, exactly := set.Resolves(n)
	if rule == nil {
		return nil, false
	}
	return w.lookups.under(rule, exactly), true
}
