package cli

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/rest"
)

// workloadFor reads a workload as status, flows and describe print it: details-v2/1, with or
// without its number, and books/details-v2/1 with its namespace before it. The namespace is
// that one, else that of --namespace, and given says whether either was written.
func workloadFor(cmd *cobra.Command, text string) (workload, namespace string, given bool, err error) {
	namespace, given = namespaceFor(cmd)
	own, rest, found := strings.Cut(text, "/")
	if !found || isNumber(rest) {
		return text, namespace, given, nil
	}
	switch {
	case !api.IsNamespace(own):
		err = fmt.Errorf("--from %q: %q is not a namespace", text, own)
	case given && own != namespace:
		err = fmt.Errorf("--from %s is in the namespace %s, and --namespace says %s: leave it out", text, own, namespace)
	}
	return rest, own, true, err
}

// isNumber says of a text whether it holds digits alone.
func isNumber(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < '0' || r > '9' })
}

// roster knows who has joined: of which service and namespace each instance is. It asks the
// server again, once, for each instance that it does not know, which may have joined since.
type roster struct {
	client *rest.Client
	known  map[string]member
}

// member is what the roster knows of an instance; the zero one is not there.
type member struct{ service, namespace string }

func newRoster(ctx context.Context, client *rest.Client) (*roster, error) {
	r := &roster{client: client, known: make(map[string]member)}
	return r, r.ask(ctx)
}

func (r *roster) ask(ctx context.Context) error {
	var status inspect.Status
	if err := r.client.Sluice(ctx, inspect.StatusPath, nil, &status); err != nil {
		return err
	}
	for i := range status.Workloads {
		w := &status.Workloads[i]
		r.known[w.Instance] = member{w.Service, w.Namespace}
	}
	return nil
}

// of returns what is known of an instance.
func (r *roster) of(ctx context.Context, instance string) member {
	if _, asked := r.known[instance]; !asked {
		if r.ask(ctx) != nil {
			return member{}
		}
		if _, joined := r.known[instance]; !joined {
			r.known[instance] = member{} // it has left: its record is of before
		}
	}
	return r.known[instance]
}

// anyOf reports whether an instance that has joined is of a workload, or of a service.
func (r *roster) anyOf(workload string) (instance, service bool) {
	named := record.Filter{Workload: workload}
	for each, who := range r.known {
		instance = instance || named.Match(&record.Record{Workload: each})
		service = service || who.service == workload
	}
	return instance, service
}

// keepsFlowOf reports whether a flow of a workload is kept, which may have left.
func keepsFlowOf(ctx context.Context, client *rest.Client, workload string) (kept bool, err error) {
	err = client.Follow(ctx, inspect.FlowsPath, url.Values{"n": {"1"}, "workload": {workload}}, func([]byte) error {
		kept = true
		return nil
	})
	return kept, err
}
