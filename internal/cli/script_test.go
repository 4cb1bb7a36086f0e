package cli

import (
	"context"
	"os"
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
			env.Setenv("SLUICE_RUNTIME", fakeapi.New().Start(env.T().(testing.TB)))
			return nil
		},
	})
}
