package cli

import (
	"context"
	"os/exec"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/sandbox"
)

// initSandbox lets the test binary be a sandbox's init, as the command is.
func initSandbox() { sandbox.Init() }

func TestTheStatusOfDoctorSaysWhetherThereIsASandbox(t *testing.T) {
	if err := sandbox.Probe(context.Background()); err != nil {
		t.Skip(err)
	}
	if said, err := exec.Command("sluice", "doctor").CombinedOutput(); err != nil || !strings.Contains(string(said), "level sandbox: ") {
		t.Errorf("%v:\n%s", err, said)
	}
	if _, err := exec.LookPath("unshare"); err != nil {
		t.Skip("unshare is missing")
	}
	// A machine that gives no network namespace.
	said, err := exec.Command("unshare", "--user", "--map-root-user", "sh", "-c",
		"echo 0 >/proc/sys/user/max_net_namespaces && exec sluice doctor").CombinedOutput()
	for _, want := range []string{"not network (no space left on device)", "no sandbox: the machine's limit of namespaces", "for more ", "raise user.max_user_namespaces", "not tried"} {
		if !strings.Contains(string(said), want) {
			t.Errorf("no %q in:\n%s", want, said)
		}
	}
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 {
		t.Errorf("without a sandbox: %v", err)
	}
}
