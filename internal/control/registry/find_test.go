package registry

import (
	"errors"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/wire"
)

func TestAWorkloadIsFoundByAsMuchOfItsNameAsIsUnique(t *testing.T) {
	there := Moment{Workloads: []wire.Workload{
		{Namespace: "default", Instance: "details-v1/1"},
		{Namespace: "default", Instance: "details-v2/2"},
		{Namespace: "default", Instance: "details-v2/1"},
		{Namespace: "other", Instance: "reviews-v1/1"},
		{Namespace: "default", Instance: "ratings-v1/1"},
		{Namespace: "third", Instance: "ratings-v1/2"},
	}}
	for _, c := range []struct{ name, namespace, want string }{
		{"details-v2/2", "", "details-v2/2"},
		{"details-v2", "", "details-v2/1"},
		{"details-v2", "other", ""},
		{"rev", "", "reviews-v1/1"},
		{"rev", "other", "reviews-v1/1"},
		{"ratings-v1", "third", "ratings-v1/2"},
		{"mongo", "", ""},
		{"details", "", "details can mean default/details-v1, default/details-v2: say more of it, or its namespace"},
		{"ratings-v1", "", "ratings-v1 can mean default/ratings-v1, third/ratings-v1"},
	} {
		found, ok, err := there.Find(c.name, c.namespace)
		var ambiguous *AmbiguousError
		switch {
		case errors.As(err, &ambiguous):
			if c.want == "" || !strings.HasPrefix(err.Error(), c.want) || ok {
				t.Errorf("%q in %q: %v", c.name, c.namespace, err)
			}
		case err != nil || ok != (c.want != "") || found.Instance != c.want:
			t.Errorf("%q in %q: %q, %v, %v; want %q", c.name, c.namespace, found.Instance, ok, err, c.want)
		}
	}
}
