package kubeapi

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	listers "k8s.io/apiextensions-apiserver/pkg/client/listers/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"sluice.dev/sluice/api"
)

// groupDiscovery answers what the CRD server leaves to others: /apis, the list
// of groups (kube-apiserver's aggregator has it elsewhere), whether a namespace is
// there, and 404 for the rest.
type groupDiscovery struct {
	definitions listers.CustomResourceDefinitionLister
	answer      http.Handler // list, and the aggregated form for who asks for it
}

func (d *groupDiscovery) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if path := strings.TrimSuffix(r.URL.Path, "/"); path == "/apis" {
		d.answer.ServeHTTP(w, r)
		return
	}
	// Of an object that is not there kubectl asks whether its namespace is, and says
	// that alone where it is not. Here a namespace needs no object.
	if name, ok := strings.CutPrefix(r.URL.Path, "/api/v1/namespaces/"); ok && r.Method == http.MethodGet && api.IsNamespace(name) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(metav1.PartialObjectMetadata{ // the client is gone
			TypeMeta:   metav1.TypeMeta{Kind: "Namespace", APIVersion: "v1"},
			ObjectMeta: metav1.ObjectMeta{Name: name},
		})
		return
	}
	writeStatus(w, http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource")
}

// list writes the groups that the established CRDs make up, and the CRDs' own.
func (d *groupDiscovery) list(w http.ResponseWriter, _ *http.Request) {
	definitions, err := d.definitions.List(labels.Everything())
	if err != nil {
		writeStatus(w, http.StatusInternalServerError, metav1.StatusReasonInternalError, err.Error())
		return
	}
	versions := map[string][]string{apiextensions.GroupName: {apiextensions.SchemeGroupVersion.Version}}
	for _, definition := range definitions {
		group := definition.Spec.Group
		for _, version := range definition.Spec.Versions {
			if version.Served && !slices.Contains(versions[group], version.Name) {
				versions[group] = append(versions[group], version.Name)
			}
		}
	}
	list := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
	for group, names := range versions {
		slices.Sort(names)
		entry := metav1.APIGroup{Name: group}
		for _, name := range names {
			entry.Versions = append(entry.Versions, metav1.GroupVersionForDiscovery{GroupVersion: group + "/" + name, Version: name})
		}
		entry.PreferredVersion = entry.Versions[0]
		list.Groups = append(list.Groups, entry)
	}
	slices.SortFunc(list.Groups, func(a, b metav1.APIGroup) int { return strings.Compare(a.Name, b.Name) })
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(list) // the client is gone
}

// writeStatus writes a failure in the form of Kubernetes' API.
func writeStatus(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{ // the client is gone
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Reason: reason, Code: int32(code), Message: message,
	})
}
