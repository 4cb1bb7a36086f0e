package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/format"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/route"
)

func rules(hosts ...string) *Policy {
	p := &Policy{}
	for _, host := range hosts {
		p.Rules = append(p.Rules, policy.Rule{ID: host, Hosts: []names.Pattern{names.MustParsePattern(host)}, Ports: []policy.Port{{Port: 443, Protocol: policy.ProtocolHTTPS}}})
	}
	return p
}

func values() map[string]any {
	service := names.MustParse("details.default.svc.cluster.local")
	return map[string]any{
		PartMesh:                         &Mesh{OutboundDefault: "Deny", MaxStale: time.Hour},
		PartPolicyRoot + "a":             rules("root.example.com"),
		PartPolicyNamespace + "a":        rules(),
		PartPolicyOwn + "a":              rules("own.example.com", "*.own.example.com"),
		PartRoutes:                       &Routes{Services: []route.Rules{{Service: service}}},
		PartDirectory:                    &Directory{Domain: "cluster.local", Services: []Service{{Name: service, Short: "details", Namespace: "default"}}},
		PartEndpoints + service.String(): &Endpoints{Service: service, Endpoints: []Endpoint{{Instance: "details-v1/1", Ports: []uint16{9080}}}},
	}
}

func encoded(t testing.TB, values map[string]any) (map[string]*Part, *Index) {
	t.Helper()
	parts := make(map[string]*Part)
	index := &Index{Revision: 7, Created: time.Unix(1, 0).UTC(), Instance: "details-v1/1", Parts: make(map[string]Hash)}
	for name, value := range values {
		part, err := EncodePart(name, value)
		if err != nil {
			t.Fatal(err)
		}
		parts[name], index.Parts[name] = part, part.Hash
	}
	index.Version = VersionOf(index.Parts)
	return parts, index
}

func TestASnapshotSurvivesItsParts(t *testing.T) {
	parts, index := encoded(t, values())
	b, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	read, err := DecodeIndex(b)
	if err != nil {
		t.Fatal(err)
	}
	var decoder Decoder
	snapshot, err := read.Assemble(func(name string, hash Hash) any {
		value, err := decoder.Decode(name, hash, parts[name].Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return value
	})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, rule := range snapshot.Rules() {
		ids = append(ids, rule.ID)
	}
	if got := strings.Join(ids, " "); got != "own.example.com *.own.example.com root.example.com" {
		t.Errorf("rules %s", got)
	}
	if snapshot.Mesh.MaxStale != time.Hour || len(snapshot.Directory.Services) != 1 || len(snapshot.Endpoints) != 1 || len(snapshot.Routes.Services) != 1 {
		t.Errorf("got %+v", snapshot)
	}
	if snapshot.Version != index.Version || snapshot.Revision != 7 || !snapshot.Created.Equal(index.Created) || !maps.Equal(snapshot.Parts, index.Parts) {
		t.Errorf("got %+v", snapshot)
	}
}

func TestEveryPartThatTheIndexNamesMustBeThere(t *testing.T) {
	_, index := encoded(t, values())
	all := values()
	for missing := range all {
		for what, held := range map[string]any{"nothing": nil, "another kind": &struct{}{}} {
			_, err := index.Assemble(func(name string, _ Hash) any {
				if name == missing {
					return held
				}
				return all[name]
			})
			if err == nil || !strings.Contains(err.Error(), missing) {
				t.Errorf("%s in place of %s: %v", what, missing, err)
			}
		}
	}
}

func TestTheVersionDependsOnNamesAndHashesAlone(t *testing.T) {
	_, index := encoded(t, values())
	_, again := encoded(t, values())
	if index.Version != again.Version {
		t.Error("equal parts have two versions")
	}
	for name := range index.Parts {
		changed := maps.Clone(index.Parts)
		changed[name] = HashOf([]byte("other"))
		if VersionOf(changed) == index.Version {
			t.Errorf("a change of %s is not a new version", name)
		}
		delete(changed, name)
		if VersionOf(changed) == index.Version {
			t.Errorf("without %s it is the same version", name)
		}
	}
}

func TestContentMustAgreeWithItsHash(t *testing.T) {
	part, err := EncodePart(PartPolicyOwn+"a", rules("a.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	var decoder Decoder
	if _, err := decoder.Decode(part.Name, part.Hash, append(slices.Clone(part.Bytes), ' ')); !errors.Is(err, ErrHash) {
		t.Errorf("other bytes: %v", err)
	}
	kept, err := decoder.Decode(part.Name, part.Hash, part.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	// What was decoded once does not excuse other bytes.
	if _, err := decoder.Decode(part.Name, part.Hash, []byte(`{"rules":[]}`)); !errors.Is(err, ErrHash) {
		t.Errorf("other bytes under a known hash: %v", err)
	}
	runtime.KeepAlive(kept)
}

func TestEqualContentIsDecodedOnceWhileItIsUsed(t *testing.T) {
	part, err := EncodePart(PartPolicyOwn+"a", rules("a.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	var decoder Decoder
	first, err := decoder.Decode(PartPolicyOwn+"a", part.Hash, part.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	second, _ := decoder.Decode(PartPolicyRoot+"a", part.Hash, part.Bytes)
	if first != second {
		t.Error("it was decoded twice")
	}
	empty, err := EncodePart(PartRoutes, struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	routes, err := decoder.Decode(PartRoutes, empty.Hash, empty.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	mesh, err := decoder.Decode(PartMesh, empty.Hash, empty.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := mesh.(*Mesh); !ok {
		t.Errorf("equal JSON of another kind came as %T", mesh)
	}
	runtime.KeepAlive(routes)
	runtime.KeepAlive(first)
}

func TestTheDecoderKeepsNothingAlive(t *testing.T) {
	var decoder Decoder
	for i := range 20 * minSweep {
		part, err := EncodePart(PartPolicyOwn+"a", rules(fmt.Sprintf("h%d.example.com", i)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decoder.Decode(part.Name, part.Hash, part.Bytes); err != nil {
			t.Fatal(err)
		}
		if i%minSweep == 0 {
			runtime.GC()
		}
	}
	if n := len(decoder.shared); n > 4*minSweep {
		t.Errorf("%d entries of values that nobody holds", n)
	}
}

func TestBoundsOfParts(t *testing.T) {
	if _, err := NewPart(PartPolicyOwn+"a", make([]byte, MaxPartBytes)); err != nil {
		t.Errorf("at the bound: %v", err)
	}
	if _, err := NewPart(PartPolicyOwn+"a", make([]byte, MaxPartBytes+1)); err == nil {
		t.Error("a part beyond the bound was made")
	}
	if _, err := DecodeIndex(make([]byte, MaxPartBytes+1)); err == nil {
		t.Error("an index beyond the bound was read")
	}
	parts := make(map[string]Hash)
	for i := range MaxParts + 1 {
		parts[fmt.Sprint(PartEndpoints, i)] = "x"
	}
	b, _ := json.Marshal(Index{Version: VersionOf(parts), Parts: parts})
	if _, err := DecodeIndex(b); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("too many parts: %v", err)
	}
}

func TestAWorkloadIsNormalizedOrRefused(t *testing.T) {
	many := make(map[string]string)
	for i := range MaxLabels + 1 {
		many[fmt.Sprint("l", i)] = "v"
	}
	var ports []uint16
	for i := range MaxPorts + 1 {
		ports = append(ports, uint16(i+1))
	}
	for what, w := range map[string]Workload{
		"a service with a dot":     {Service: "a.b"},
		"a service in capitals":    {Service: "Details"},
		"a version with a space":   {Version: "v 1"},
		"a namespace with a slash": {Namespace: "a/b"},
		"an account with a slash":  {Account: "a/b"},
		"labels that contradict":   {Service: "details", Labels: map[string]string{"app": "other"}},
		"too many labels":          {Labels: many},
		"a label key that is long": {Labels: map[string]string{strings.Repeat("x", 64): "v"}},
		"a prefix that is long":    {Labels: map[string]string{strings.Repeat("x", 254) + "/x": "v"}},
		"a label value too long":   {Labels: map[string]string{"k": strings.Repeat("x", MaxLabelValue+1)}},
		"a label with a line":      {Labels: map[string]string{"k": "a\nb"}},
		"too many ports":           {Ports: ports},
		"port zero":                {Ports: []uint16{0, 80}},
		"a long proxy":             {Proxy: strings.Repeat("x", MaxProxyName+1)},
	} {
		if got, err := w.Normalize(); err == nil {
			t.Errorf("%s is taken: %+v", what, got)
		}
	}
	labels := map[string]string{"tier": "back"}
	w, err := Workload{Service: "details", Version: "v2", Labels: labels, Ports: []uint16{443, 80, 443}}.Normalize()
	if err != nil {
		t.Fatal(err)
	}
	if w.Namespace != "default" || w.Labels["app"] != "details" || w.Labels["version"] != "v2" || w.Labels["tier"] != "back" || !slices.Equal(w.Ports, []uint16{80, 443}) {
		t.Errorf("got %+v", w)
	}
	if len(labels) != 1 {
		t.Error("the caller's labels were changed")
	}
	for base, w := range map[string]Workload{
		"details-v2": {Service: "details", Version: "v2"}, "details": {Service: "details"},
		"ingress": {Labels: map[string]string{"app": "ingress"}}, "command": {},
	} {
		if w.Base() != base {
			t.Errorf("%+v is called %s", w, w.Base())
		}
	}
}

func TestTheClassIsAllThatARuleMayLookAt(t *testing.T) {
	base := Workload{Service: "details", Namespace: "default", Account: "a", Labels: map[string]string{"x": "1", "y": "2"}}
	same := base
	same.Instance, same.PID, same.Proxy, same.Ports, same.Level = "details/7", 9, "p", []uint16{1}, "sandbox"
	if base.ClassKey() != same.ClassKey() {
		t.Error("instances of one class have two keys")
	}
	keys := map[string]bool{base.ClassKey(): true}
	for _, change := range []func(*Workload){
		func(w *Workload) { w.Service = "reviews" },
		func(w *Workload) { w.Namespace = "shop" },
		func(w *Workload) { w.Account = "b" },
		func(w *Workload) { w.Labels = map[string]string{"x": "1"} },
		func(w *Workload) { w.Labels = map[string]string{"x": `1" "y"="2`} },
		func(w *Workload) { w.Labels = map[string]string{"x": "2", "y": "1"} },
	} {
		w := base
		change(&w)
		if keys[w.ClassKey()] {
			t.Errorf("%+v has the key of another class", w)
		}
		keys[w.ClassKey()] = true
	}
}

func TestTheTypesLinkNoGRPC(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for _, dep := range strings.Fields(string(out)) {
		if strings.HasPrefix(dep, "google.golang.org/") || strings.HasPrefix(dep, "github.com/envoyproxy/") {
			t.Errorf("it links %s", dep)
		}
	}
}

func TestATypeSaysItsFormatAndAnotherFormatIsRefused(t *testing.T) {
	for _, kind := range []Kind{KindMesh, KindPolicy, KindRoutes, KindDirectory, KindEndpoints, KindIndex} {
		if got, err := KindOfType(kind.TypeURL()); err != nil || got != kind {
			t.Errorf("%s: %s, %v", kind.TypeURL(), got, err)
		}
	}
	for url, newer := range map[string]bool{
		"type.sluice.dev/wire.v7.Index": true, "type.sluice.dev/wire.v7.Whatever": true, "type.sluice.dev/wire.v1.Policy": false,
	} {
		var unknown *format.UnknownError
		if _, err := KindOfType(url); !errors.As(err, &unknown) || unknown.Newer() != newer {
			t.Errorf("%s: %v", url, err)
		}
	}
	now := strconv.Itoa(Format)
	for _, url := range []string{
		"", typePrefix + now + ".", typePrefix + now + ".Secret", "type.sluice.dev/wire.vtwo.Index", typePrefix + now,
		"type.googleapis.com/envoy.config.cluster.v3.Cluster",
	} {
		var unknown *format.UnknownError
		if kind, err := KindOfType(url); err == nil || errors.As(err, &unknown) {
			t.Errorf("%q: %s, %v", url, kind, err)
		}
	}
}

func FuzzDecodeParts(f *testing.F) {
	parts, index := encoded(f, values())
	for name, part := range parts {
		f.Add(name, part.Bytes)
	}
	b, _ := json.Marshal(index)
	f.Add(NameIndex, b)
	f.Add(PartPolicyOwn+"a", []byte(`{"rules":[{"id":"x","hosts":["*"],"cidrs":["::/0"],"ports":[{"port":443,"protocol":"tcp"}]}]} {}`))
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		if name == NameIndex {
			if index, err := DecodeIndex(b); err == nil && index.Version != VersionOf(index.Parts) {
				t.Fatalf("an index of another version: %s", b)
			}
			return
		}
		var decoder Decoder
		value, err := decoder.Decode(name, HashOf(b), b)
		if err != nil {
			return
		}
		if _, err := EncodePart(name, value); err != nil {
			t.Fatalf("%s was read and cannot be written: %v", name, err)
		}
	})
}
