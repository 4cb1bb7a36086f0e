package kubeapi

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/endpoints/request"

	"sluice.dev/sluice/internal/control/authority"
)

func TestEachChangeIsToldWithWhoMadeItAndItsRevision(t *testing.T) {
	r := startRemote(t)
	editor := r.as(t, credential(t, r.authority, authority.Editor, time.Hour))
	reader := r.as(t, credential(t, r.authority, authority.Reader, time.Hour))
	told := 0
	for _, x := range []struct {
		what                             string
		client                           *testServer
		method, path, kind, accept, body string
		want                             []string // who role verb name; none: not a change
	}{
		{"created by the administrator", r.testServer, "POST", "", "application/json", "", egressRule("a", "a.example.com"), []string{"sluice:admin admin create a"}},
		{"created", editor, "POST", "", "application/json", "", egressRule("b", "a.example.com"), []string{"jason editor create b"}},
		{"created with an answer in YAML", editor, "POST", "", "application/json", "application/yaml", egressRule("c", "a.example.com"), []string{"jason editor create c"}},
		{"tried only", editor, "POST", "?dryRun=All", "application/json", "", egressRule("d", "a.example.com"), nil},
		{"refused for its spec", editor, "POST", "", "application/json", "", egressRule("d", "not a host"), nil},
		{"refused for its role", reader, "POST", "", "application/json", "", egressRule("d", "a.example.com"), nil},
		{"refused since it is there", editor, "POST", "", "application/json", "", egressRule("a", "a.example.com"), nil},
		{"patched", editor, "PATCH", "/a", "application/merge-patch+json", "", `{"spec":{"destination":{"service":"b.example.com"}}}`, []string{"jason editor patch a"}},
		{"patched with a table as the answer", editor, "PATCH", "/a", "application/merge-patch+json", "application/json;as=Table;v=v1;g=meta.k8s.io", `{"metadata":{"labels":{"x":"y"}}}`, []string{"jason editor patch a"}},
		{"patched to what it is", editor, "PATCH", "/a", "application/merge-patch+json", "", `{"spec":{"destination":{"service":"b.example.com"}}}`, nil},
		{"changed in what kubectl notes for itself alone", editor, "PATCH", "/b", "application/merge-patch+json", "", `{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"x"}}}`, nil},
		{"applied", editor, "PATCH", "/e?fieldManager=t", "application/apply-patch+yaml", "", egressRule("e", "a.example.com"), []string{"jason editor apply e"}},
		{"read", editor, "GET", "/a", "", "", "", nil},
		{"deleted", editor, "DELETE", "/a", "", "", "", []string{"jason editor delete a"}},
		{"deleted again", editor, "DELETE", "/a", "", "", "", nil},
		{"all deleted", editor, "DELETE", "", "", "", "", []string{"jason editor deletecollection b", "jason editor deletecollection c", "jason editor deletecollection e"}},
	} {
		request, err := http.NewRequestWithContext(t.Context(), x.method, "http://sluice"+egressRules+x.path, strings.NewReader(x.body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", x.kind)
		if x.accept != "" {
			request.Header.Set("Accept", x.accept)
		}
		response, err := x.client.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		all := r.changes()
		fresh := all[told:]
		told = len(all)
		var got []string
		for i := range fresh {
			e := &fresh[i]
			got = append(got, fmt.Sprintf("%s %s %s %s", e.Who, e.Role, e.Verb, e.Name))
			if e.Resource != "egressrules.config.istio.io" || e.Namespace != "default" || e.UID == "" || e.From == "" || e.Time.IsZero() || (e.State == nil) != e.Deleted() {
				t.Errorf("%s: %+v", x.what, e)
			}
			if !e.Deleted() {
				_, body := r.do(t, "GET", egressRules+"/"+e.Name, "", "")
				if stored := revisionIn([]byte(body)); stored != e.Revision || stored == 0 {
					t.Errorf("%s: told as revision %d, stored as %d", x.what, e.Revision, stored)
				}
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(x.want) {
			t.Errorf("%s (%s): told %q, want %q", x.what, response.Status, got, x.want)
		}
	}
}

func TestAChangeWhoseClientHangsUpIsStillMadeAndTold(t *testing.T) {
	ctx, hangUp := context.WithCancel(context.WithValue(t.Context(), callerKey{}, caller{principal: remote, name: "jason", role: authority.Editor}))
	info := &request.RequestInfo{IsResourceRequest: true, Verb: "create", APIGroup: "config.istio.io", Resource: "egressrules", Name: "a"}
	stored := false
	handler := (&changes{log: testLog()}).note(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hangUp()
		if stored = r.Context().Err() == nil; stored {
			w.WriteHeader(http.StatusCreated)
		}
		if _, bounded := r.Context().Deadline(); !bounded {
			t.Error("it has no end")
		}
	}))
	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", egressRules, nil).WithContext(request.WithRequestInfo(ctx, info)))
	if !stored {
		t.Error("what is stored ends with the client, and nobody is told")
	}
}
