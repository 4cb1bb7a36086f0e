package cli

import (
	"context"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/control/registry"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/rest/fakeapi"
	"sluice.dev/sluice/internal/wire"
)

// The test binary is also the command, so that the scripts run real processes.
func TestMain(m *testing.M) {
	initSandbox()
	testscript.Main(m, map[string]func(){
		"sluice": func() { os.Exit(Execute(context.Background())) },
	})
}

// Each script has a server of its own, which knows nothing yet and gives the
// first object revision 12.
func TestTheWordsOfTheCommandLine(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			server := fakeapi.New()
			server.Warn = warnings
			beside := http.NewServeMux()
			beside.Handle("/sluice/", inspect.NewHandler(inspect.Config{Version: inspect.Version{Version: "v9.9.9"}, Data: flowing{}, Census: flowing{}, Rules: func() (int64, int) { return 13, 2 }}))
			beside.Handle(inspect.HistoryPath, inspect.NewHistoryHandler(changesOf))
			beside.Handle(inspect.CredentialPath, inspect.NewCredentialHandler(issue))
			server.Beside = beside
			env.Setenv("SLUICE_RUNTIME", server.Start(env.T().(testing.TB)))
			return nil
		},
	})
}

// flowing is a data plane with one workload, two flows that are open and two that
// have ended.
type flowing struct{ inspect.DataPlane }

func (flowing) Now() registry.Moment {
	return registry.Moment{Workloads: []wire.Workload{details}}
}

func (flowing) Workloads() []inspect.WorkloadStatus {
	return []inspect.WorkloadStatus{{Workload: details, Connected: true, SentVersion: "0123456789abcdef", AckedVersion: "0123456789abcdef"}}
}

var details = wire.Workload{Instance: "details-v2/1", Namespace: "default", Service: "details", Labels: map[string]string{"app": "details"}, Level: "sandbox"}

func (flowing) Flows(_ context.Context, query inspect.FlowQuery, accepted func(), emit func(record.Record) error) error {
	flows := []record.Record{{ID: 3, Start: time.Now().Add(-time.Second), Duration: time.Millisecond, Workload: "details-v2/1", Port: 80, Method: "GET", Path: "/a%20b", Verdict: record.Denied},
		{ID: 4, Start: time.Now(), Workload: "details-v2/1", SNI: "a.example.com", Port: 443, Verdict: record.Denied, Rule: "egress-policy/default/books", Reason: refusal.MethodOrPath}}
	if query.Open {
		flows = []record.Record{
			{ID: 1, Start: time.Now().Add(-time.Hour), Workload: "details-v2/1", SNI: "www.example.com", Port: 443, Verdict: record.Allowed,
				Treatment: policy.Passthrough, Rule: "egress-policy/default/a", Sent: 20, Received: 3000},
			{ID: 2, Start: time.Now().Add(-2 * time.Minute), Workload: "reviews-v1/1", Dialled: "b.example.com", Port: 80},
		}
	}
	flows = slices.DeleteFunc(flows, func(f record.Record) bool { return !(record.Filter{Workload: query.Workload}).Match(&f) })
	accepted()
	for _, f := range flows[max(0, len(flows)-query.Last):] {
		if err := emit(f); err != nil {
			return err
		}
	}
	return nil
}

// warnings is what a server warns of that knows that no workload runs: of a policy,
// and before that what everybody knows, cut as the Kubernetes API cuts it.
func warnings(r *http.Request) []string {
	if r.Method != http.MethodPost && r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/egresspolicies") {
		return nil
	}
	return []string{
		`299 - "egress-policy/default/rule has port: 80 protocol: https, which speaks TLS"`,
		`299 - "egress-policy/default/rule has a spec.from that selects no running workload: none in namespace default has the label app=a"`,
	}
}
