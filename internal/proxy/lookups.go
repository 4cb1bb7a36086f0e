package proxy

import (
	"context"
	"errors"

	"golang.org/x/net/dns/dnsmessage"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/proxy/dnsserver"
	"sluice.dev/sluice/internal/refusal"
)

// lookups is our own DNS as the names of one workload use it: dnsserver.Upstream. What is
// asked counts against the bounds of what the workload dials.
type lookups struct{ of *Workload }

// Allows implements dnsserver.Upstream.
func (l lookups) Allows(n names.Name) bool {
	_, allowed := l.of.egress.Asking(l.of.config.Holder.Load().Policy, n)
	return allowed
}

// Exists implements dnsserver.Upstream.
func (l lookups) Exists(ctx context.Context, n names.Name) bool {
	limit, allowed := l.of.egress.Asking(l.of.config.Holder.Load().Policy, n)
	if !allowed {
		return false
	}
	_, err := l.of.proxy.config.Resolver.LookupFor(ctx, n, l.of.lookups, limit)
	return err == nil
}

// Records implements dnsserver.Upstream.
func (l lookups) Records(ctx context.Context, name string, host names.Name, typ dnsmessage.Type) (dnsserver.Records, error) {
	asking := l.of.egress.Asking
	if typ == dnsmessage.TypeSRV {
		asking = l.of.egress.AskingServices
	}
	limit, allowed := asking(l.of.config.Holder.Load().Policy, host)
	if !allowed { // the rules have changed since Allows
		return dnsserver.Records{}, errors.New("no rule allows it any more")
	}
	found, err := l.of.proxy.config.Resolver.Records(ctx, name, typ, l.of.lookups, limit)
	if err != nil {
		if refusal.Of(err).Reason == refusal.NoSuchName {
			err = dnsserver.ErrNoSuchName
		}
		return dnsserver.Records{}, err
	}
	records := dnsserver.Records{Texts: found.Texts, TTL: min(dnsserver.TTL, uint32(found.TTL.Seconds()))}
	for _, service := range found.Services {
		records.Services = append(records.Services, dnsserver.Service(service))
	}
	return records, nil
}
