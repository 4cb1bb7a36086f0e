package cluster

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"sluice.dev/sluice/internal/addresses"
	"sluice.dev/sluice/internal/wire"
)

// slice is what is held of an EndpointSlice.
type slice struct {
	service   key
	ports     map[string]uint16 // at the endpoints, by the name of the Service's port
	endpoints []endpoint
}

// endpoint is one of an EndpointSlice.
type endpoint struct {
	pod       key // zero: it is no Pod's
	addresses []netip.Addr
	hostname  string
	state     state
}

// state is whether an endpoint takes calls, the better first.
type state uint8

const (
	ready   state = iota
	leaving       // it is about to end, and serves until then: it is called where none is ready
	away
)

func stateOf(conditions *discoveryv1.EndpointConditions) state {
	is := func(condition *bool, unsaid bool) bool {
		if condition == nil {
			return unsaid
		}
		return *condition
	}
	switch {
	case is(conditions.Ready, true):
		return ready
	case is(conditions.Serving, false) && is(conditions.Terminating, false):
		return leaving
	}
	return away
}

// putSlice takes in an EndpointSlice as it is now. The lock is held.
func (c *Cluster) putSlice(seen *discoveryv1.EndpointSlice) {
	name := keyOf(seen)
	fresh := &slice{service: key{name.namespace, seen.Labels[discoveryv1.LabelServiceName]}, ports: make(map[string]uint16)}
	for i := range seen.Ports {
		one := &seen.Ports[i]
		if one.Port != nil && (one.Protocol == nil || *one.Protocol == corev1.ProtocolTCP) {
			text := ""
			if one.Name != nil {
				text = *one.Name
			}
			fresh.ports[text] = uint16(*one.Port)
		}
	}
	if seen.AddressType != discoveryv1.AddressTypeFQDN { // which nobody resolves: Kubernetes has given it up
		for i := range seen.Endpoints {
			fresh.endpoints = append(fresh.endpoints, endpointOf(name.namespace, &seen.Endpoints[i]))
		}
	}
	old := c.slices[name]
	if old != nil && old.same(fresh) {
		return
	}
	if old != nil && old.service != fresh.service {
		c.removeSlice(name)
	}
	c.slices[name] = fresh
	if of := c.services[fresh.service]; of != nil {
		of.slices[name] = fresh
		c.dirty[fresh.service] = true
		c.announce()
	}
}

func endpointOf(namespace string, seen *discoveryv1.Endpoint) endpoint {
	out := endpoint{state: stateOf(&seen.Conditions)}
	if of := seen.TargetRef; of != nil && of.Kind == "Pod" {
		out.pod = key{namespace, of.Name} // another namespace's cannot be meant
	}
	if seen.Hostname != nil {
		out.hostname = *seen.Hostname
	}
	for _, text := range seen.Addresses {
		if address, err := netip.ParseAddr(text); err == nil {
			out.addresses = append(out.addresses, address)
		}
	}
	return out
}

func (s *slice) same(other *slice) bool {
	return s.service == other.service && maps.Equal(s.ports, other.ports) &&
		slices.EqualFunc(s.endpoints, other.endpoints, func(a, b endpoint) bool {
			return a.pod == b.pod && a.hostname == b.hostname && a.state == b.state && slices.Equal(a.addresses, b.addresses)
		})
}

// removeSlice forgets an EndpointSlice. The lock is held.
func (c *Cluster) removeSlice(name key) {
	gone := c.slices[name]
	if gone == nil {
		return
	}
	delete(c.slices, name)
	if of := c.services[gone.service]; of != nil {
		delete(of.slices, name)
		c.dirty[gone.service] = true
		c.announce()
	}
}

// endpointsOf joins the slices of a Service: who is ready or, where nobody is, who serves
// until it ends, as kube-proxy has it. An endpoint with addresses of two families, or with
// ports in two slices, is one. The lock is held.
func (c *Cluster) endpointsOf(s *service) (joined []wire.Endpoint, pods []key) {
	best := away
	for _, slice := range s.slices {
		for i := range slice.endpoints {
			best = min(best, slice.endpoints[i].state)
		}
	}
	at := make(map[string]int)
	var of []key // the Pod of each that is joined
	for _, name := range slices.SortedFunc(maps.Keys(s.slices), key.compare) {
		slice := s.slices[name]
		for i := range slice.endpoints {
			e := &slice.endpoints[i]
			if e.pod != (key{}) && !slices.Contains(pods, e.pod) {
				pods = append(pods, e.pod) // whoever is away now too: it may be known later
			}
			if e.state != best || best == away || len(e.addresses) == 0 {
				continue
			}
			theirs := c.theirs(s, e)
			if e.pod == (key{}) && len(theirs) == 0 {
				continue
			}
			fresh := c.endpoint(e, theirs)
			i, known := at[fresh.Instance]
			if !known {
				i = len(joined)
				at[fresh.Instance] = i
				joined, of = append(joined, fresh), append(of, e.pod)
			} else if of[i] != e.pod {
				continue // Pod 93.184.216 of namespace 34 is called as an address is, which is not the Pod's
			}
			one := &joined[i]
			for _, address := range theirs {
				if !slices.Contains(one.Addresses, address) {
					one.Addresses = append(one.Addresses, address)
				}
			}
			s.serve(one, slice)
		}
	}
	for i := range joined {
		slices.Sort(joined[i].Ports)
		slices.SortFunc(joined[i].Addresses, netip.Addr.Compare)
	}
	slices.SortFunc(joined, func(a, b wire.Endpoint) int { return strings.Compare(a.Instance, b.Instance) })
	return joined, pods
}

// theirs returns the addresses of an endpoint that count. Users write EndpointSlices too: an
// address of a Pod is one that the Pod has, whatever a slice says of it, and one without a Pod
// is for a Service without a selector alone, whose endpoints are its user's to say. The lock
// is held.
func (c *Cluster) theirs(s *service, e *endpoint) []netip.Addr {
	if e.pod == (key{}) {
		if len(s.selector) > 0 {
			return nil
		}
		return slices.DeleteFunc(slices.Clone(e.addresses), func(a netip.Addr) bool {
			return addresses.Undialable(a) || a.IsLoopback() || a.IsLinkLocalUnicast()
		})
	}
	known := c.pods[e.pod]
	if known == nil {
		return nil // until it is
	}
	return slices.DeleteFunc(slices.Clone(e.addresses), func(a netip.Addr) bool { return !slices.Contains(known.reached, a) })
}

// endpoint is one with these addresses, without them and its ports. The lock is held.
func (c *Cluster) endpoint(e *endpoint, theirs []netip.Addr) wire.Endpoint {
	out := wire.Endpoint{Hostname: e.hostname, Ports: []uint16{}}
	if e.pod == (key{}) {
		out.Instance = theirs[0].String()
		return out
	}
	out.Instance = InstanceOf(e.pod.namespace, e.pod.name)
	if known := c.pods[e.pod]; known != nil && known.problem == nil {
		out.Labels = known.workload.Labels
		if known.joins {
			out.Proxy = out.Instance
		}
	}
	return out
}

// serve notes on which ports of the service an endpoint of a slice serves.
func (s *service) serve(one *wire.Endpoint, of *slice) {
	for _, p := range s.ports {
		target := of.ports[p.name]
		number := p.number
		if s.headless {
			number = target
		}
		if target == 0 || slices.Contains(one.Ports, number) {
			continue
		}
		one.Ports = append(one.Ports, cmp.Or(number, target))
		if target != number {
			if one.Targets == nil {
				one.Targets = make(map[uint16]uint16)
			}
			one.Targets[number] = target
		}
	}
}
