package cli

import (
	"context"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"sluice.dev/sluice/internal/rest/fakeapi"
)

// The test binary is also the command, so that the scripts run real processes.
func TestMain(m *testing.M) {
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
			env.Setenv("SLUICE_RUNTIME", server.Start(env.T().(testing.TB)))
			return nil
		},
	})
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
