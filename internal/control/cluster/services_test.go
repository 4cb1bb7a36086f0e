package cluster

import (
	"log/slog"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"sluice.dev/sluice/internal/control/compile"
	"sluice.dev/sluice/internal/kube/inject"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/wire"
	"sluice.dev/sluice/internal/wire/stream"
)

func known(t *testing.T, objects ...any) *Cluster {
	t.Helper()
	c := newCluster(Config{Domain: compile.DefaultDomain, Log: slog.New(slog.DiscardHandler)}, fake.NewClientset())
	put(t, c, objects...)
	return c
}

func put(t *testing.T, c *Cluster, objects ...any) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, object := range objects {
		switch object := object.(type) {
		case *corev1.Pod:
			c.putPod(object)
		case *corev1.Service:
			c.putService(object)
		case *discoveryv1.EndpointSlice:
			c.putSlice(object)
		default:
			t.Fatalf("%T", object)
		}
	}
}

func meta(name string, labels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-of-" + name), Labels: labels}
}

// podNamed is a Pod with a token for the mesh.
func podNamed(name, address string, labels map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: meta(name, labels),
		Spec: corev1.PodSpec{ServiceAccountName: "till", Volumes: []corev1.Volume{{Name: "token", VolumeSource: corev1.VolumeSource{
			Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: stream.TokenAudience, Path: "token"}},
			}},
		}}}},
		Status: corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: address}}},
	}
}

func serviceNamed(name string, spec corev1.ServiceSpec) *corev1.Service {
	return &corev1.Service{ObjectMeta: meta(name, nil), Spec: spec}
}

// sliceOf is an EndpointSlice of a Service with one port.
func sliceOf(name, service, port string, number int32, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: meta(name, map[string]string{discoveryv1.LabelServiceName: service}), AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{Name: &port, Port: &number}}, Endpoints: endpoints,
	}
}

// behind is an endpoint that is a Pod, or with pod "" an address alone.
func behind(pod, address string, isReady bool) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: &isReady}}
	if pod != "" {
		e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: pod}
	}
	return e
}

func leavingEndpoint(pod, address string) discoveryv1.Endpoint {
	yes := true
	e := behind(pod, address, false)
	e.Conditions.Serving, e.Conditions.Terminating = &yes, &yes
	return e
}

func serviceIn(t *testing.T, c *Cluster, name string) *compile.Service {
	t.Helper()
	for _, service := range c.Now().Services {
		if service.Short == name {
			return service
		}
	}
	t.Fatalf("there is no service %s", name)
	return nil
}

func mustName(t *testing.T, text string) names.Name {
	t.Helper()
	name, err := names.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

var compareAddresses = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
var compareNames = cmp.Comparer(func(a, b names.Name) bool { return a == b })

func TestAServiceIsCalledOnItsPortsAndReachedOnThoseOfItsPods(t *testing.T) {
	app := map[string]string{"app": "reviews", "version": "v2"}
	c := known(t,
		podNamed("reviews-1", "10.1.0.1", app), podNamed("reviews-2", "10.1.0.2", app),
		serviceNamed("reviews", corev1.ServiceSpec{
			ClusterIP: "10.0.0.7", ClusterIPs: []string{"10.0.0.7", "fd00::7"}, Selector: map[string]string{"app": "reviews"},
			Ports: []corev1.ServicePort{{Name: "http-web", Port: 80}, {Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}},
		}),
		sliceOf("reviews-a", "reviews", "http-web", 9080, behind("reviews-2", "10.1.0.2", true), behind("reviews-1", "10.1.0.1", true), behind("reviews-3", "10.1.0.3", false)),
		sliceOf("other-a", "other", "http", 1, behind("reviews-1", "10.1.0.1", true)),
	)
	want := &compile.Service{
		Service: wire.Service{
			Name: mustName(t, "reviews.shop.svc.cluster.local"), Short: "reviews", Namespace: "shop",
			Ports:     []wire.ServicePort{{Port: 80, Protocol: policy.ProtocolHTTP}},
			Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("fd00::7")},
		},
		Selector: map[string]string{"app": "reviews"},
		Endpoints: []wire.Endpoint{
			{Instance: "reviews-1.shop", Proxy: "reviews-1.shop", Labels: app, Ports: []uint16{80}, Targets: map[uint16]uint16{80: 9080}, Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.1")}},
			{Instance: "reviews-2.shop", Proxy: "reviews-2.shop", Labels: app, Ports: []uint16{80}, Targets: map[uint16]uint16{80: 9080}, Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.2")}},
		},
	}
	if diff := cmp.Diff(want, serviceIn(t, c, "reviews"), compareAddresses, compareNames); diff != "" {
		t.Error(diff)
	}
}

func TestAServiceOfWhichNobodyIsReadyIsServedByWhoIsLeaving(t *testing.T) {
	service := serviceNamed("web", corev1.ServiceSpec{ClusterIPs: []string{"10.0.0.8"}, Ports: []corev1.ServicePort{{Port: 80}}})
	c := known(t, service, sliceOf("web-a", "web", "", 80, leavingEndpoint("web-1", "10.1.0.1"), behind("web-2", "10.1.0.2", false)))
	if all := serviceIn(t, c, "web").Endpoints; len(all) != 1 || all[0].Instance != "web-1.shop" {
		t.Errorf("while nobody is ready: %+v", all)
	}
	put(t, c, sliceOf("web-a", "web", "", 80, leavingEndpoint("web-1", "10.1.0.1"), behind("web-2", "10.1.0.2", true)))
	if all := serviceIn(t, c, "web").Endpoints; len(all) != 1 || all[0].Instance != "web-2.shop" {
		t.Errorf("once one is ready: %+v", all)
	}
	put(t, c, sliceOf("web-a", "web", "", 80, behind("web-2", "10.1.0.2", false)))
	if all := serviceIn(t, c, "web").Endpoints; len(all) != 0 {
		t.Errorf("where nobody serves: %+v", all)
	}
}

func TestThePodsOfAStatefulSetHaveNamesOfTheirOwnAndTheirOwnPorts(t *testing.T) {
	first := behind("db-0", "10.1.0.1", true)
	hostname := "db-0"
	first.Hostname = &hostname
	c := known(t, sliceOf("db-a", "db", "tcp-sql", 5432, first),
		serviceNamed("db", corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, ClusterIPs: []string{corev1.ClusterIPNone}, Ports: []corev1.ServicePort{{Name: "tcp-sql", Port: 99}}}))
	got := serviceIn(t, c, "db")
	if !got.Headless || len(got.Addresses) != 0 || len(got.Ports) != 1 || got.Ports[0] != (wire.ServicePort{Port: 5432, Protocol: policy.ProtocolTCP}) {
		t.Errorf("the service is %+v", got.Service)
	}
	if len(got.Endpoints) != 1 || got.Endpoints[0].Hostname != "db-0" || len(got.Endpoints[0].Targets) != 0 || got.Endpoints[0].Ports[0] != 5432 {
		t.Errorf("its endpoints are %+v", got.Endpoints)
	}
}

func TestAnExternalNameIsAnotherNameForAHostAndHasNoEndpoints(t *testing.T) {
	c := known(t, serviceNamed("api", corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "API.Example.com", Ports: []corev1.ServicePort{{Port: 443}}}))
	if got := serviceIn(t, c, "api"); got.Alias.String() != "api.example.com" || got.Endpoints != nil || got.Selector != nil || got.Addresses != nil {
		t.Errorf("%+v", got)
	}
	put(t, c, serviceNamed("api", corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "192.0.2.1"}))
	if got := serviceIn(t, c, "api"); got.Problem == "" {
		t.Errorf("an address is taken for a name: %+v", got)
	}
}

func TestAServiceWithoutASelectorHasTheAddressesOfItsSlices(t *testing.T) {
	c := known(t, serviceNamed("legacy", corev1.ServiceSpec{ClusterIPs: []string{"10.0.0.9"}, Ports: []corev1.ServicePort{{Port: 80}}}),
		sliceOf("by-hand", "legacy", "", 8080, behind("", "192.0.2.7", true)))
	got := serviceIn(t, c, "legacy")
	if len(got.Endpoints) != 1 || got.Endpoints[0].Instance != "192.0.2.7" || got.Endpoints[0].Targets[80] != 8080 || got.Endpoints[0].Proxy != "" {
		t.Errorf("%+v", got.Endpoints)
	}
}

func TestASliceGivesAPodOfTheMeshNoAddressButItsOwn(t *testing.T) {
	c := known(t, podNamed("web-1", "10.1.0.1", nil), serviceNamed("web", corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}),
		sliceOf("web-a", "web", "", 80, behind("web-1", "169.254.169.254", true)),
		sliceOf("web-b", "web", "", 80, behind("web-1", "10.1.0.1", true)),
		sliceOf("web-c", "web", "", 80, behind("web-1", "203.0.113.6", true)))
	got := serviceIn(t, c, "web")
	if len(got.Endpoints) != 1 || !slices.Equal(got.Endpoints[0].Addresses, []netip.Addr{netip.MustParseAddr("10.1.0.1")}) {
		t.Errorf("%+v", got.Endpoints)
	}
}

func TestAPodThatComesAfterItsSliceGivesItsLabelsAndOneThatChangesThemChangesThem(t *testing.T) {
	c := known(t, sliceOf("web-a", "web", "", 80, behind("web-1", "10.1.0.1", true)),
		serviceNamed("web", corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}))
	if got := serviceIn(t, c, "web").Endpoints[0]; got.Labels != nil || got.Proxy != "" {
		t.Errorf("of a Pod that is not known: %+v", got)
	}
	for _, version := range []string{"v1", "v2"} {
		before := c.Now()
		put(t, c, podNamed("web-1", "10.1.0.1", map[string]string{"version": version}))
		select {
		case <-before.Changed:
		default:
			t.Error("nobody is woken")
		}
		if got := serviceIn(t, c, "web").Endpoints[0]; got.Labels["version"] != version || got.Proxy != "web-1.shop" {
			t.Errorf("at %s: %+v", version, got)
		}
	}
}

func TestWhatChangesNothingWakesNobodyAndWhatDoesNotChangeIsTheSameValue(t *testing.T) {
	objects := func() []any {
		return []any{
			podNamed("web-1", "10.1.0.1", map[string]string{"app": "web"}),
			serviceNamed("web", corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}),
			serviceNamed("other", corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}),
			sliceOf("web-a", "web", "", 80, behind("web-1", "10.1.0.1", true)),
		}
	}
	c := known(t, objects()...)
	before, other := c.Now(), serviceIn(t, c, "other")
	put(t, c, objects()...)
	if after := c.Now(); after.Number != before.Number {
		t.Errorf("the same objects again make moment %d of %d", after.Number, before.Number)
	}
	put(t, c, sliceOf("web-a", "web", "", 81, behind("web-1", "10.1.0.1", true)))
	if c.Now().Number == before.Number || serviceIn(t, c, "other") != other {
		t.Error("a change of one service is not seen, or makes another anew")
	}
}

func TestWhatIsRemovedIsGone(t *testing.T) {
	c := known(t, podNamed("web-1", "10.1.0.1", nil), serviceNamed("web", corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}),
		sliceOf("web-a", "web", "", 80, behind("web-1", "10.1.0.1", true)))
	c.Now()
	for _, remove := range []func(){
		func() { c.removeSlice(key{"shop", "web-a"}) }, func() { c.removeService(key{"shop", "web"}) }, func() { c.removePod(key{"shop", "web-1"}) },
	} {
		c.mu.Lock()
		remove()
		c.mu.Unlock()
		c.Now()
	}
	if now := c.Now(); len(now.Services)+len(now.Workloads)+len(c.behind)+len(c.slices)+len(c.dirty) != 0 {
		t.Errorf("what is left: %+v, %v", now, c.behind)
	}
}

func TestOnlyPodsWithATokenForTheMeshAreCountedAndOneThatCannotJoinIsNot(t *testing.T) {
	plain := podNamed("plain", "10.1.0.1", nil)
	plain.Spec.Volumes = nil
	many := make(map[string]string)
	for i := range wire.MaxLabels + 1 {
		many[string(rune('a'+i%26))+string(rune('a'+i/26))] = ""
	}
	c := known(t, plain, podNamed("meshed", "10.1.0.2", map[string]string{"app": "x"}), podNamed("crowded", "10.1.0.3", many))
	all := c.Now().Workloads
	if len(all) != 1 || all[0].Instance != "meshed.shop" || all[0].Account != "till" || all[0].Namespace != "shop" || all[0].Labels["app"] != "x" {
		t.Errorf("%+v", all)
	}
}

// A token is one field of a Pod's YAML: with it alone the address of a node would count as held
// by a sidecar, and everybody on it as that Pod.
func TestAPodOnTheNetworkOfItsNodeHasNoSidecarWhateverTokenItMounts(t *testing.T) {
	shared := podNamed("shared", "192.168.77.1", map[string]string{"app": "x"})
	shared.Spec.HostNetwork = true
	c := known(t, shared, serviceNamed("web", corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}),
		sliceOf("web-a", "web", "", 80, behind("shared", "192.168.77.1", true)))
	if all := c.Now().Workloads; len(all) != 0 {
		t.Errorf("it is a workload of the mesh: %+v", all)
	}
	if all := serviceIn(t, c, "web").Endpoints; len(all) != 1 || all[0].Proxy != "" || all[0].Labels["app"] != "x" {
		t.Errorf("its endpoint: %+v", all)
	}
	if namespaces, _ := c.joining(); len(namespaces) != 0 {
		t.Errorf("its namespace has a sidecar: %v", namespaces)
	}
}

func TestAPodThatIsInjectedIsGivenATokenThatJoins(t *testing.T) {
	if inject.TokenAudience != stream.TokenAudience {
		t.Errorf("kube-inject asks for a token for %s, the server for one for %s", inject.TokenAudience, stream.TokenAudience)
	}
}

func TestAPodThatWasThereBeforeTheServerIsAsWellMeshedAsOneThatComes(t *testing.T) {
	pod := podNamed("web", "10.1.0.1", map[string]string{"app": "web"})
	listed := pod.DeepCopy()
	stripPod(listed)
	first, second := known(t, pod), known(t, listed)
	if got := second.pods[keyOf(pod)]; !got.same(first.pods[keyOf(pod)]) || !got.joins || len(got.reached) != 1 {
		t.Errorf("of a list it is %+v", got)
	}
}

func TestAnEndpointSliceOfAUserGivesNoPodAnAddressThatItDoesNotHave(t *testing.T) {
	elsewhere := podNamed("till", "10.2.0.1", nil)
	elsewhere.Namespace = "bank"
	shared := podNamed("on-its-node", "192.168.77.1", nil)
	shared.Spec.HostNetwork = true
	port := []corev1.ServicePort{{Port: 80}}
	foreign := behind("till", "10.2.0.1", true)
	foreign.TargetRef.Namespace = "bank"
	c := known(t, elsewhere, shared, podNamed("web-1", "10.1.0.1", nil),
		serviceNamed("web", corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: port}),
		serviceNamed("legacy", corev1.ServiceSpec{Ports: port}),
		sliceOf("web-a", "web", "", 80, behind("web-1", "10.1.0.1", true), behind("on-its-node", "192.168.77.1", true)),
		sliceOf("web-b", "web", "", 80, behind("web-1", "10.2.0.1", true), behind("web-1", "169.254.169.254", true), foreign,
			behind("", "10.2.0.1", true), behind("", "169.254.169.254", true), behind("web-9", "10.2.0.1", true)),
		sliceOf("legacy-a", "legacy", "", 80, behind("", "192.0.2.7", true), behind("", "169.254.169.254", true), behind("", "127.0.0.1", true), behind("", "0.0.0.0", true)),
	)
	all := make(map[string][]netip.Addr)
	for _, service := range []string{"web", "legacy"} {
		for _, endpoint := range serviceIn(t, c, service).Endpoints {
			if len(endpoint.Addresses) > 0 {
				all[endpoint.Instance] = endpoint.Addresses
			}
		}
	}
	want := map[string][]netip.Addr{
		"web-1.shop": {netip.MustParseAddr("10.1.0.1")}, "on-its-node.shop": {netip.MustParseAddr("192.168.77.1")}, "192.0.2.7": {netip.MustParseAddr("192.0.2.7")},
	}
	if diff := cmp.Diff(want, all, compareAddresses); diff != "" {
		t.Error(diff)
	}
	// A Pod that gets the address later is reached there from then on.
	put(t, c, podNamed("web-9", "10.2.0.1", nil))
	for _, endpoint := range serviceIn(t, c, "web").Endpoints {
		if endpoint.Instance == "web-9.shop" && len(endpoint.Addresses) != 1 {
			t.Errorf("%+v", endpoint)
		}
	}
}

// The name of a Pod and its namespace may be together what an address is.
func TestAPodThatIsCalledAsAnAddressIsDoesNotGetIt(t *testing.T) {
	pod := podNamed("93.184.216", "10.1.0.1", nil)
	service := serviceNamed("web", corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}})
	slice := sliceOf("web-a", "web", "", 80, behind("93.184.216", "10.1.0.1", true), behind("", "93.184.216.34", true))
	pod.Namespace, service.Namespace, slice.Namespace = "34", "34", "34"
	for _, endpoint := range serviceIn(t, known(t, pod, service, slice), "web").Endpoints {
		if endpoint.Proxy != "" && !slices.Equal(endpoint.Addresses, []netip.Addr{netip.MustParseAddr("10.1.0.1")}) {
			t.Errorf("%+v", endpoint)
		}
	}
}
