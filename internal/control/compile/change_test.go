package compile

import (
	"bytes"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"testing"
	"weak"

	"pgregory.net/rapid"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/api/istio"
	"sluice.dev/sluice/api/v1alpha1"
	"sluice.dev/sluice/internal/wire"
)

// drawObject draws an object of few names, destinations and ports, so that they meet.
func drawObject(t *rapid.T) api.Object {
	namespace := rapid.SampledFrom([]string{"default", "shop", RootNamespace}).Draw(t, "namespace")
	name := fmt.Sprintf("r%d", rapid.IntRange(0, 9).Draw(t, "name"))
	hosts := []string{"a.example.com", "b.example.com", "c.example.com", "*.example.org", "192.0.2.0/24"}
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0, 1, 2, 3, 4:
		ports := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"443/https", "443/tcp", "80/http", "80/tcp", "27017/mongo"}), 1, 2, rapid.ID).Draw(t, "ports")
		return egressRule(namespace, name, rapid.SampledFrom(hosts).Draw(t, "host"), ports...)
	case 5, 6:
		var labels map[string]string
		if rapid.Bool().Draw(t, "selector") {
			labels = map[string]string{"version": rapid.SampledFrom([]string{"v1", "v2"}).Draw(t, "version")}
		}
		return egressPolicy(namespace, name, labels, rapid.SampledFrom(hosts[:4]).Draw(t, "host"))
	case 7:
		return object("config.istio.io/v1alpha2", "RouteRule", namespace, name, &istio.RouteRuleSpec{
			Destination: &istio.Service{Name: "details"}, Precedence: int32(rapid.IntRange(0, 2).Draw(t, "precedence")),
		})
	case 8:
		return object("sluice.dev/v1alpha1", "MeshService", namespace, "details", &v1alpha1.MeshServiceSpec{
			Ports: []v1alpha1.ServicePort{{Port: int32(rapid.IntRange(9080, 9081).Draw(t, "port")), Protocol: "http"}},
		})
	}
	return object("sluice.dev/v1alpha1", "MeshConfig", "", "default", &v1alpha1.MeshConfigSpec{
		MaxStale: rapid.SampledFrom([]string{"1h", "2h"}).Draw(t, "maxStale"),
	})
}

// same reports in what two outputs differ, for each of the workloads.
func same(t *rapid.T, got, want *Output, of []wire.Workload) {
	if !slices.Equal(got.Problems, want.Problems) {
		t.Fatalf("problems\n%v\nwant\n%v", got.Problems, want.Problems)
	}
	if a, b := fmt.Sprint(got.Warnings()), fmt.Sprint(want.Warnings()); a != b {
		t.Fatalf("warnings\n%s\nwant\n%s", a, b)
	}
	for _, w := range of {
		a, errA := got.View(w)
		b, errB := want.View(w)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if a.Version != b.Version || !maps.Equal(a.hashes, b.hashes) || len(a.Parts) != len(b.Parts) {
			t.Fatalf("%s of %s gets %v, want %v", w.Instance, w.Namespace, a.hashes, b.hashes)
		}
		for i := range a.Parts {
			if a.Parts[i].Name != b.Parts[i].Name || !bytes.Equal(a.Parts[i].Bytes, b.Parts[i].Bytes) {
				t.Fatalf("part %s is\n%s\nwant %s\n%s", a.Parts[i].Name, a.Parts[i].Bytes, b.Parts[i].Name, b.Parts[i].Bytes)
			}
		}
	}
}

func TestWhatChangesMakeIsByteForByteWhatTheWholeMakes(t *testing.T) {
	everybody := []wire.Workload{
		workload(t, "details-v1/1", "default"), workload(t, "details-v2/1", "default"), workload(t, "reviews-v1/1", "shop"), workload(t, "proxy-v1/1", RootNamespace),
	}
	rapid.Check(t, func(t *rapid.T) {
		var compiler Compiler
		var objects []api.Object
		workloads, census := everybody[:1], uint64(1)
		for round := range rapid.IntRange(1, 12).Draw(t, "rounds") {
			objects = slices.Clone(objects) // what an output was made of does not change
			for range rapid.IntRange(0, 6).Draw(t, "changes") {
				fresh := drawObject(t)
				at := slices.IndexFunc(objects, func(o api.Object) bool { return keyOf(&o) == keyOf(&fresh) })
				switch {
				case at < 0:
					objects = append(objects, fresh)
				case rapid.IntRange(0, 2).Draw(t, "delete") > 0: // as the store does it
					last := len(objects) - 1
					objects[at] = objects[last]
					objects = objects[:last]
				default:
					objects[at] = fresh
				}
			}
			if rapid.IntRange(0, 3).Draw(t, "census") == 0 {
				workloads, census = everybody[:rapid.IntRange(0, len(everybody)).Draw(t, "there")], census+1
			}
			in := Input{Objects: objects, Workloads: workloads, Census: census, Revision: int64(round)}
			// The order of a list says nothing.
			whole := in
			whole.Objects = rapid.Permutation(objects).Draw(t, "order")
			same(t, compiler.Compile(in), Compile(whole), everybody)
		}
	})
}

func TestOfTenThousandRulesAChangeMakesOnePartAnew(t *testing.T) {
	var objects []api.Object
	for i := range 10_000 {
		objects = append(objects, egressRule("default", fmt.Sprintf("rule-%05d", i), fmt.Sprintf("host%d.example.com", i), "443/https"))
	}
	var compiler Compiler
	in := workload(t, "details-v1/1", "default")
	view := func() *View {
		v, err := compiler.Compile(Input{Objects: objects}).View(in)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	before := view()
	if n := len(before.Parts); n < 300 || n > 2000 {
		t.Errorf("10,000 small rules come in %d parts", n)
	}
	for name, change := range map[string]func(){
		"a rule is changed": func() {
			objects[5000] = egressRule("default", "rule-05000", "other.example.com", "443/https")
		},
		"a rule is deleted":               func() { objects = append(objects[:7000:7000], objects[7001:]...) },
		"a rule is created at the end":    func() { objects = append(objects, egressRule("default", "z", "z.example.com", "443/https")) },
		"a rule is created at the front":  func() { objects = append(objects, egressRule("default", "a", "a.example.com", "443/https")) },
		"a rule is created in the middle": func() { objects = append(objects, egressRule("default", "rule-03000a", "m.example.com", "443/https")) },
	} {
		objects = slices.Clone(objects)
		change()
		after := view()
		made := 0
		for _, part := range after.Parts {
			if !slices.Contains(before.Parts, part) {
				made++
			}
		}
		if made < 1 || made > 2 { // a rule that ends a part makes two of one
			t.Errorf("where %s, %d parts are made anew", name, made)
		}
		before = after
	}
}

func TestARuleThatIsGoneIsHeldByNoPartThatStays(t *testing.T) {
	var objects []api.Object
	for i := range 500 {
		objects = append(objects, egressRule("default", fmt.Sprintf("rule-%03d", i), fmt.Sprintf("host%d.example.com", i), "443/https"))
	}
	var compiler Compiler
	compile := func() {
		if _, err := compiler.Compile(Input{Objects: objects}).View(workload(t, "details-v1/1", "default")); err != nil {
			t.Fatal(err)
		}
	}
	compile()
	gone := weak.Make(compiler.rules.namespaces["default"].rules[250])
	objects = append(objects[:250:250], objects[251:]...)
	compile()
	runtime.GC()
	if gone.Value() != nil {
		t.Error("it is still held, and with it all rules of its time")
	}
	runtime.KeepAlive(&compiler)
}

// BenchmarkChange is one rule that changes, with the view of one class.
func BenchmarkChange(b *testing.B) {
	for _, count := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			var objects []api.Object
			for i := range count {
				objects = append(objects, egressRule("default", fmt.Sprintf("rule-%05d", i), fmt.Sprintf("host%d.example.com", i), "443/https"))
			}
			var compiler Compiler
			in := workload(b, "details-v1/1", "default")
			b.ReportAllocs()
			compiler.Compile(Input{Objects: objects, Census: 1})
			for i := 0; b.Loop(); i++ {
				objects[count/2] = egressRule("default", fmt.Sprintf("rule-%05d", count/2), fmt.Sprintf("other%d.example.com", i%2), "443/https")
				if _, err := compiler.Compile(Input{Objects: objects, Census: 1}).View(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
