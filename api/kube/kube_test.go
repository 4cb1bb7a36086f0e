package kube

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sluice.dev/sluice/api"
)

func TestEveryKindIsKnownToTheSchemeUnderItsName(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	for _, kind := range api.Kinds() {
		typed, list, err := New(kind)
		if err != nil {
			t.Fatal(err)
		}
		for object, name := range map[runtime.Object]string{typed: kind.Name, list: kind.Name + "List"} {
			kinds, _, err := scheme.ObjectKinds(object)
			want := schema.GroupVersionKind{Group: kind.Group, Version: kind.Version, Kind: name}
			if err != nil || len(kinds) != 1 || kinds[0] != want {
				t.Errorf("%T is %v (%v), want %v", object, kinds, err, want)
			}
		}
	}
	if _, _, err := New(&api.Kind{Name: "Other"}); err == nil {
		t.Error("a kind without a type was made")
	}
}

func TestPlainHasAllThatTheTypedObjectHas(t *testing.T) {
	for _, text := range []string{
		`{"apiVersion":"config.istio.io/v1alpha2","kind":"EgressRule","metadata":{"name":"a","namespace":"b","labels":{"l":"m"},"resourceVersion":"7","uid":"u","generation":2,"creationTimestamp":"2026-01-02T03:04:05Z"},"spec":{"destination":{"service":"*.a.com"},"ports":[{"port":443,"protocol":"https"}]},"status":{"observedGeneration":2}}`,
		`{"apiVersion":"config.istio.io/v1alpha2","kind":"RouteRule","metadata":{"name":"a","namespace":"b"},"spec":{"destination":{"name":"x"},"l4Fault":{"throttle":{"percent":1.5}}}}`,
		`{"apiVersion":"sluice.dev/v1alpha1","kind":"EgressPolicy","metadata":{"name":"a","namespace":"b"},"spec":{"to":{"hosts":["a.b"],"ports":[{"port":443,"protocol":"https"}]}}}`,
		`{"apiVersion":"sluice.dev/v1alpha1","kind":"MeshService","metadata":{"name":"a","namespace":"b"},"spec":{"ports":[{"port":9080}]}}`,
		`{"apiVersion":"sluice.dev/v1alpha1","kind":"MeshConfig","metadata":{"name":"default"},"spec":{"maxStale":"2h"}}`,
	} {
		want, err := api.DecodeJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		typed, _, err := New(want.TypeOf())
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(text), typed); err != nil {
			t.Fatal(err)
		}
		got, err := Plain(typed.DeepCopyObject().(Typed))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(api.Origin{})); diff != "" {
			t.Error(diff)
		}
	}
	if _, err := Plain(nil); err == nil {
		t.Error("nothing was made plain")
	}
}
