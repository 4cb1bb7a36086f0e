// Package compile turns the objects of the store and the workloads that live
// into what each class of workloads runs. The server's loop calls it on every
// change, and `sluice run` without a server on the rules of its files: there is
// no second path. It is pure: no I/O, no clock, no Kubernetes, and it never
// multiplies workloads by rules.
//
// Which rules a workload gets:
//
//   - An EgressPolicy selects the workloads of its namespace that its from
//     names; in the root namespace, those of every namespace.
//   - An EgressRule of Istio 0.5 selects every workload of its namespace, and every
//     workload of the mesh where it is in the root namespace. (In Istio 0.5
//     it was the whole mesh from anywhere.)
//   - Two EgressRules of one namespace conflict as they did in Istio 0.5, in the
//     order of their keys; the loser is dropped whole and is a Problem. Rules of
//     different namespaces never conflict: a namespace must not be able to drop
//     another one's rule.
//   - A RouteRule applies to whoever calls its destination, as in Istio 0.5, unless
//     its match.source names somebody else. So does a DestinationPolicy, with its
//     source; of several for one destination the smallest key holds.
//   - IngressRules and Ingresses of every namespace are for the ingress, and lead to
//     services; an Ingress leads to those of its own namespace alone.
//
// An object that cannot be compiled is a Problem and grants nothing.
package compile

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/api/networking"
	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/wire"
)

// RootNamespace is the namespace whose rules hold for every other.
const RootNamespace = "sluice-system"

// DefaultDomain is the cluster domain where none is configured.
const DefaultDomain = "cluster.local"

// Input is everything that the mesh is at one moment.
type Input struct {
	Objects   []api.Object    // of every kind, in any order; not changed and not to be changed while an Output lives
	Workloads []wire.Workload // that live, normalized, in any order; not to be changed while an Output lives
	// Services is what a census knows by itself, as a cluster does: then there are no
	// others. nil: MeshServices and the workloads say what there is.
	Services []*Service
	Past     []wire.Workload // of each service whose workloads left: Service, Namespace, Ports and Protocols
	Census   uint64          // when Workloads was read, in the count of whoever keeps them
	Allow    []policy.Rule   // of --allow: for every workload
	Private  []netip.Prefix  // of --private: where the names of every rule may lead besides
	Audit    bool            // of --audit: for every workload, whatever the MeshConfig says
	Revision int64           // of the store
	Created  time.Time       // of this compilation
	Domain   string          // "" is DefaultDomain
}

// Problem is an object that was not compiled, or not wholly.
type Problem struct {
	Object string // "egress-rule/default/googleapis"
	Text   string // for people; of the conflicts, in the words of Istio 0.5
}

// Output is the compiled mesh. What one class of workloads gets of it is made
// when it is first asked for, and shared. Safe for concurrent use.
type Output struct {
	Revision int64
	Census   uint64 // of the input
	Created  time.Time
	Problems []Problem // sorted by object

	egress   *egressIndex
	routes   []*compiledRoute // in the order in which they are tried
	services *serviceSet

	destinations []*compiledDestination // in the order of their keys
	ingress      *ingressSet

	shared    []*wire.Part // parts that every workload gets: directory, endpoints
	mesh      *compiledMesh
	audit     bool
	objects   []*compiled     // in the order of the input
	workloads []wire.Workload // that live
	failed    error           // why no snapshot can be made at all
	cache     *cache
	decoder   *wire.Decoder

	population func() *population
	warnings   func() map[string][]Warning

	mu    sync.Mutex
	views map[string]func() (*View, error) // by class
}

// AllowsBypass reports whether the MeshConfig lets Pods get around their sidecars.
func (o *Output) AllowsBypass() bool { return o.mesh.spec.AllowBypass }

// View is what every workload of one class gets.
type View struct {
	Version  string
	Revision int64
	Created  time.Time
	Parts    []*wire.Part // sorted by name; never changed

	from     []*wire.Part // the same as they were put together
	hashes   map[string]wire.Hash
	snapshot func() (*wire.Snapshot, error)
}

// Index returns the index of the view for one workload.
func (v *View) Index(instance string) *wire.Index {
	return &wire.Index{Version: v.Version, Revision: v.Revision, Created: v.Created, Instance: instance, Parts: v.hashes}
}

// Snapshot returns the view as a proxy that runs it sees it. It is made at the
// first call and shared: nobody may change it.
func (v *View) Snapshot() (*wire.Snapshot, error) { return v.snapshot() }

// Compile compiles in. It keeps nothing; a Compiler does.
func Compile(in Input) *Output { return new(Compiler).Compile(in) }

// Compiler compiles one input after another and does again only what a change touches: the
// objects that differ, the rules of their namespaces, and of these the part in which each is.
// What it makes is what Compile makes of the same input, but that a MeshConfig with a fault
// leaves in force what it was before. Its zero value is ready. Not safe for concurrent use;
// the Outputs are.
type Compiler struct {
	cache   *cache
	objects *objectSet
	rules   ruleSet
	routes  []*compiledRoute
	refused []Problem     // of routes
	mesh    *compiledMesh // of the newest MeshConfig without a fault; nil: there is none
	last    *joined
}

// joined is the services of the mesh and who serves them, and what they were made of.
type joined struct {
	defined  []*compiledService
	census   uint64
	spoken   int
	past     int
	known    []*Service
	services *serviceSet
	shared   []*wire.Part
	failed   error
	problems []Problem
}

// of reports whether the services of an input are the same: of one census there is one
// population, and the number 0 counts nothing.
func (j *joined) of(in *Input, defined []*compiledService) bool {
	return j != nil && in.Census != 0 && in.Census == j.census && len(in.Workloads) == j.spoken && len(in.Past) == j.past &&
		slices.Equal(in.Services, j.known) && slices.Equal(defined, j.defined)
}

// Compile compiles in.
func (c *Compiler) Compile(in Input) *Output {
	if in.Domain == "" {
		in.Domain = DefaultDomain
	}
	if c.cache == nil || c.cache.domain != in.Domain {
		*c = Compiler{cache: newCache(in.Domain), objects: &objectSet{domain: in.Domain}}
	}
	c.cache.startGeneration()
	out := &Output{
		Revision: in.Revision, Census: in.Census, Created: in.Created,
		mesh: defaultMesh(), audit: in.Audit, workloads: in.Workloads,
		cache: c.cache, decoder: c.cache.decoder, views: make(map[string]func() (*View, error)),
	}
	objects, gone, added := c.objects.take(in.Objects)
	out.objects = objects
	c.rules.change(egressOf(gone), egressOf(added), c.cache.policyPart)
	rerouted := c.routes == nil
	for _, object := range slices.Concat(gone, added) {
		rerouted = rerouted || object.route != nil
	}
	var routes []*compiledRoute
	var defined []*compiledService
	var destinations []*compiledDestination
	var entries []*compiledIngress
	before := c.mesh
	c.mesh = nil
	for _, object := range objects {
		keeps := object.isMesh && object.mesh == nil && before != nil
		for _, text := range object.problems {
			if keeps {
				text += "; what it was before stays in force"
			}
			out.report(object.id, text)
		}
		switch {
		case object.egress != nil:
		case object.route != nil:
			routes = append(routes, object.route)
		case object.destination != nil:
			destinations = append(destinations, object.destination)
		case object.ingress != nil:
			entries = append(entries, object.ingress)
		case object.service != nil:
			defined = append(defined, object.service)
		case object.mesh != nil:
			out.mesh, c.mesh = object.mesh, object.mesh
		case keeps:
			out.mesh, c.mesh = before, before
		}
	}
	if rerouted {
		if c.routes, c.refused = boundRegexes(routes); c.routes == nil {
			c.routes = []*compiledRoute{}
		}
		slices.SortFunc(c.routes, byPrecedence)
	}
	out.routes = c.routes
	slices.SortFunc(destinations, byKey)
	out.destinations = destinations
	if !c.last.of(&in, defined) {
		c.last = c.join(&in, defined)
	}
	out.services, out.shared, out.failed = c.last.services, c.last.shared, c.last.failed
	out.ingress = joinIngresses(entries, out.services, out.report)
	out.egress = c.rules.index
	if len(in.Allow)+len(in.Private) > 0 {
		out.egress = out.withFlags(&in)
	}
	out.Problems = slices.Concat(out.Problems, c.rules.problems(), c.refused, c.last.problems)
	out.prepareWarnings()
	slices.SortFunc(out.Problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Text, b.Text))
	})
	return out
}

// join joins the services of an input and makes the parts that every workload gets.
func (c *Compiler) join(in *Input, defined []*compiledService) *joined {
	j := &joined{defined: defined, census: in.Census, spoken: len(in.Workloads), past: len(in.Past), known: slices.Clone(in.Services)}
	c.cache.known.next()
	j.services = joinServices(defined, in, in.Domain, func(object, text string) {
		j.problems = append(j.problems, Problem{Object: object, Text: text})
	})
	j.shared, j.failed = sharedParts(j.services, in.Domain, c.cache)
	return j
}

// egressOf returns the egress rules among objects.
func egressOf(objects []*compiled) (rules []*compiledEgress) {
	for _, object := range objects {
		if object.egress != nil {
			rules = append(rules, object.egress)
		}
	}
	return rules
}

// withFlags is the index of the rules in effect together with those of --allow and with
// the consent of --private.
func (o *Output) withFlags(in *Input) *egressIndex {
	var rules []*compiledEgress
	for _, of := range o.egress.namespaces {
		rules = append(rules, of.all...)
		for _, own := range of.own {
			rules = append(rules, own...)
		}
	}
	slices.SortFunc(rules, compareEgress)
	for _, rule := range in.Allow {
		everyones, err := allowed(rule)
		if err != nil {
			o.report(rule.ID, err.Error())
			continue
		}
		rules = append(rules, everyones)
	}
	if len(in.Private) > 0 {
		rules = o.consenting(rules, in.Private)
	}
	slices.SortStableFunc(rules, func(a, b *compiledEgress) int { return cmp.Compare(a.rule.ID, b.rule.ID) })
	return indexEgress(rules, o.cache.policyPart)
}

func (o *Output) report(object, text string) {
	o.Problems = append(o.Problems, Problem{Object: object, Text: text})
}

// ForWorkload returns the snapshot of one workload, which need not live: `sluice
// run` and `why` ask for such.
func (o *Output) ForWorkload(w wire.Workload) (*wire.Snapshot, error) {
	view, err := o.View(w)
	if err != nil {
		return nil, err
	}
	return view.Snapshot()
}

// View returns what the workload's class gets. It fails where a bound of wire is
// passed, or for a workload that is not normalized.
func (o *Output) View(w wire.Workload) (*View, error) {
	if w.Namespace == "" {
		return nil, errors.New("compile: a workload without a namespace")
	}
	if o.failed != nil {
		return nil, o.failed
	}
	key := w.ClassKey()
	o.mu.Lock()
	view, ok := o.views[key]
	if !ok {
		view = sync.OnceValues(func() (*View, error) { return o.makeView(w) })
		o.views[key] = view
	}
	o.mu.Unlock()
	return view()
}

func (o *Output) makeView(w wire.Workload) (*View, error) {
	root, err := o.egress.in(RootNamespace).parts()
	if err != nil {
		return nil, err
	}
	var namespace []*wire.Part
	if w.Namespace != RootNamespace {
		if namespace, err = o.egress.in(w.Namespace).parts(); err != nil {
			return nil, err
		}
	}
	own, err := o.cache.policyParts(wire.PartPolicyOwn, o.egress.selecting(w))
	if err != nil {
		return nil, err
	}
	routes, err := o.cache.routesPart(o.routesOf(w), o.destinationsOf(w), o.ingressOf(w))
	if err != nil {
		return nil, err
	}
	mesh, err := o.cache.encode(wire.PartMesh, o.mesh.of(w.Namespace, o.audit))
	if err != nil {
		return nil, err
	}
	view := &View{Revision: o.Revision, Created: o.Created}
	decoder := o.decoder // alone: a view stays while its parts do, and must not keep its output
	view.from = slices.Concat(o.shared, []*wire.Part{mesh, routes}, root, namespace, own)
	class := w.ClassKey()
	if same := o.cache.view(class, view.from); same != nil {
		view.Version, view.Parts, view.from, view.hashes = same.Version, same.Parts, same.from, same.hashes
		view.snapshot = sync.OnceValues(func() (*wire.Snapshot, error) { return view.assemble(decoder) })
		return view, nil
	}
	view.Parts = slices.Clone(view.from)
	if len(view.Parts) > wire.MaxParts {
		return nil, fmt.Errorf("compile: %d parts are more than the %d that one snapshot may have", len(view.Parts), wire.MaxParts)
	}
	slices.SortFunc(view.Parts, func(a, b *wire.Part) int { return cmp.Compare(a.Name, b.Name) })
	view.hashes = make(map[string]wire.Hash, len(view.Parts))
	size := 0
	for _, part := range view.Parts {
		view.hashes[part.Name] = part.Hash
		size += len(part.Bytes)
	}
	if size > wire.MaxSnapshotBytes {
		return nil, fmt.Errorf("compile: %d bytes are more than the %d that one snapshot may have", size, wire.MaxSnapshotBytes)
	}
	view.Version = wire.VersionOf(view.hashes)
	view.snapshot = sync.OnceValues(func() (*wire.Snapshot, error) { return view.assemble(decoder) })
	o.cache.keepView(class, view)
	return view, nil
}

// assemble reads the parts as a proxy does, so that what the server decides with
// is what the proxy decides with.
func (v *View) assemble(decoder *wire.Decoder) (*wire.Snapshot, error) {
	values := make(map[string]any, len(v.Parts))
	for _, part := range v.Parts {
		value, err := decoder.Decode(part.Name, part.Hash, part.Bytes)
		if err != nil {
			return nil, fmt.Errorf("compile: %w", err)
		}
		values[part.Name] = value
	}
	return v.Index("").Assemble(func(name string, _ wire.Hash) any { return values[name] })
}

// compiled is what one object came to. At most one of its pointers is set.
type compiled struct {
	id       string
	problems []string
	advice   func() []string // of api.Warnings
	egress   *compiledEgress
	route    *compiledRoute
	service  *compiledService

	destination *compiledDestination
	ingress     *compiledIngress

	mesh   *compiledMesh
	isMesh bool // it is the MeshConfig, which has a fault where mesh is nil
}

// compileObject compiles one object by itself.
func compileObject(object *api.Object, domain string) *compiled {
	known := api.Object{APIVersion: object.APIVersion, Kind: object.Kind, Metadata: object.Metadata, Spec: object.Spec}
	out := &compiled{id: objectID(object), advice: sync.OnceValue(func() []string { return api.Warnings(&known) })}
	namespace := cmp.Or(object.Metadata.Namespace, wire.DefaultNamespace)
	var err error
	switch spec := object.Spec.(type) {
	case *istio.EgressRuleSpec:
		out.egress, err = compileEgressRule(out.id, namespace, spec)
	case *v1alpha1.EgressPolicySpec:
		out.egress, err = compileEgressPolicy(out.id, namespace, spec)
	case *istio.RouteRuleSpec:
		out.route, err = compileRouteRule(out.id, namespace, spec, domain)
	case *istio.DestinationPolicySpec:
		out.destination, err = compileDestinationPolicy(out.id, namespace, spec, domain)
	case *istio.IngressRuleSpec:
		out.ingress, err = compileIngressRule(out.id, namespace, spec, object.Metadata.Annotations, domain)
	case *networking.IngressSpec:
		out.ingress, err = compileIngress(out.id, namespace, spec, object.Metadata.Annotations, domain)
	case *v1alpha1.MeshServiceSpec:
		out.service, err = compileService(out.id, namespace, object.Metadata.Name, spec, domain)
	case *v1alpha1.MeshConfigSpec:
		out.isMesh = object.Metadata.Name == v1alpha1.MeshConfigName
		out.mesh, err = compileMeshConfig(object.Metadata.Name, spec)
	default:
		err = fmt.Errorf("kind %s is not supported yet", object.Kind)
	}
	if err != nil {
		out.problems = append(out.problems, err.Error())
	}
	return out
}

// objectID is the object's key; one without a namespace (from a file) is in the
// default one, unless its kind has none.
func objectID(object *api.Object) string {
	if kind := object.TypeOf(); kind != nil && kind.Namespaced && object.Metadata.Namespace == "" {
		return strings.Join([]string{kind.Kebab, wire.DefaultNamespace, object.Metadata.Name}, "/")
	}
	return object.ID()
}
