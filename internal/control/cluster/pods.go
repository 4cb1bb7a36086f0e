package cluster

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sluice.dev/sluice/internal/wire"
	"sluice.dev/sluice/internal/wire/stream"
)

// pod is what is held of a Pod.
type pod struct {
	uid      types.UID
	workload wire.Workload
	reached  []netip.Addr // at which it is reached, be they its node's; none while it has none
	joins    bool         // it has a token for us: somebody gave it a proxy
	onNode   bool         // its network is its node's, which no sidecar of it holds
	problem  error        // why it cannot join
}

// InstanceOf is what a Pod is called in the mesh: as Istio called it.
func InstanceOf(namespace, name string) string { return name + "." + namespace }

// putPod takes in a Pod as it is now. The lock is held.
func (c *Cluster) putPod(seen *corev1.Pod) {
	name := keyOf(seen)
	fresh := &pod{uid: seen.UID, joins: hasToken(seen) && !seen.Spec.HostNetwork, onNode: seen.Spec.HostNetwork, reached: addressesOf(seen)}
	fresh.workload, fresh.problem = wire.Workload{
		Instance: InstanceOf(name.namespace, name.name), Namespace: name.namespace,
		Account: seen.Spec.ServiceAccountName, Labels: seen.Labels, Version: seen.Labels["version"],
	}.Normalize()
	if fresh.problem != nil {
		fresh.problem = fmt.Errorf("the Pod %s/%s: %w", name.namespace, name.name, fresh.problem)
	}
	old := c.pods[name]
	if old != nil && old.same(fresh) {
		return
	}
	if fresh.joins && fresh.problem != nil && (old == nil || old.problem == nil) {
		c.config.Log.Warn("a Pod cannot join", "error", fresh.problem)
	}
	c.pods[name] = fresh
	c.countSidecar(name.namespace, old, fresh)
	c.markBehind(name)
	c.announce()
}

func (p *pod) same(other *pod) bool {
	return p.uid == other.uid && p.joins == other.joins && p.onNode == other.onNode && (p.problem == nil) == (other.problem == nil) &&
		slices.Equal(p.reached, other.reached) && reflect.DeepEqual(p.workload, other.workload)
}

// removePod forgets a Pod. The lock is held.
func (c *Cluster) removePod(name key) {
	gone := c.pods[name]
	if gone == nil {
		return
	}
	delete(c.pods, name)
	c.countSidecar(name.namespace, gone, nil)
	c.markBehind(name)
	c.announce()
}

// markBehind has the services that a Pod is behind built anew. The lock is held.
func (c *Cluster) markBehind(name key) {
	for _, service := range c.behind[name] {
		c.dirty[service] = true
	}
}

// hasToken reports whether a Pod is given a token for us.
func hasToken(seen *corev1.Pod) bool {
	for i := range seen.Spec.Volumes {
		projected := seen.Spec.Volumes[i].Projected
		if projected == nil {
			continue
		}
		for j := range projected.Sources {
			if token := projected.Sources[j].ServiceAccountToken; token != nil && token.Audience == stream.TokenAudience {
				return true
			}
		}
	}
	return false
}

// addressesOf returns the addresses at which a Pod is reached, as its kubelet says, sorted.
func addressesOf(seen *corev1.Pod) []netip.Addr {
	var own []netip.Addr
	for _, one := range seen.Status.PodIPs {
		if address, err := netip.ParseAddr(one.IP); err == nil {
			own = append(own, address)
		}
	}
	slices.SortFunc(own, netip.Addr.Compare)
	return own
}

// stripPod leaves of a Pod what putPod looks at.
func stripPod(object metav1.Object) {
	stripMeta(object)
	seen, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	spec, status := seen.Spec, seen.Status // copies: both are written anew
	seen.OwnerReferences, seen.Finalizers = nil, nil
	seen.Spec = corev1.PodSpec{ServiceAccountName: spec.ServiceAccountName, HostNetwork: spec.HostNetwork}
	for i := range spec.Volumes {
		if spec.Volumes[i].Projected != nil {
			seen.Spec.Volumes = append(seen.Spec.Volumes, spec.Volumes[i])
		}
	}
	seen.Status = corev1.PodStatus{PodIPs: status.PodIPs}
}
