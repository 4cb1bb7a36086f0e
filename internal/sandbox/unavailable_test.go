package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture"
)

func TestTheReasonWhyThereIsNoSandboxIsFound(t *testing.T) {
	rules := string(capture.StepRules)
	for _, test := range []struct {
		name string
		err  error
		step string
		user bool // a user namespace is needed
		set  map[string]string
		want Reason
	}{
		{"a limit of 0", unix.ENOSPC, "", true, nil, NamespaceLimit},
		{"nested too deep", unix.EUSERS, "", true, nil, NamespaceLimit},
		{"an old Debian", unix.EPERM, "", true, map[string]string{"kernel/unprivileged_userns_clone": "0"}, UserNamespacesOff},
		{"Ubuntu at clone", unix.EACCES, "", true, map[string]string{"kernel/apparmor_restrict_unprivileged_userns": "1"}, AppArmor},
		{"Ubuntu at the network", unix.EPERM, string(capture.StepLink), true, map[string]string{"kernel/apparmor_restrict_unprivileged_userns": "1"}, AppArmor},
		{"Ubuntu, as root", unix.ENOENT, rules, false, map[string]string{"kernel/apparmor_restrict_unprivileged_userns": "1"}, NoTransparent},
		{"a container", unix.EPERM, "", true, nil, NotPermitted},
		{"no nft_tproxy", unix.ENOENT, rules, true, nil, NoTransparent},
		{"no nf_tables", unix.EPROTONOSUPPORT, rules, false, nil, NoTransparent},
		{"no mounts", unix.EPERM, stepMounts, false, nil, NoMounts},
		{"something else", unix.EIO, stepMounts, false, nil, SetUpFailed},
	} {
		got := reasonOf(fmt.Errorf("wrapped: %w", test.err), test.step, test.user, 1000, func(name string) string { return test.set[name] })
		if got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
		if remedies[got][1] == "" {
			t.Errorf("%s: no remedy", got)
		}
	}
	if got := reasonOf(unix.EPERM, "", true, 0, func(string) string { return "" }); got != NoRoot {
		t.Errorf("root inside a sandbox: %s", got)
	}
}

func TestWithoutUserNamespacesTheErrorSaysSo(t *testing.T) {
	needSandbox(t)
	output := roleInMounts(t, "no-namespaces")
	if !strings.HasPrefix(output, string(NamespaceLimit)+": no sandbox: ") || !strings.Contains(output, "user.max_user_namespaces") {
		t.Error(output)
	}
}

// noNamespacesRole asks for a sandbox where the limit of namespaces is 0 and no
// capability is held.
func noNamespacesRole([]string) int {
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		fmt.Println(err)
		return 1
	}
	_, err := New(context.Background(), Config{Command: []string{"true"}, UserNamespace: true})
	var unavailable *UnavailableError
	if !errors.As(err, &unavailable) {
		fmt.Println("not an UnavailableError:", err)
		return 1
	}
	fmt.Printf("%s: %v\n", unavailable.Reason, err)
	return 0
}

func TestAnErrorOfInitKeepsItsErrnoAndStep(t *testing.T) {
	err := failureOf("x", &capture.StepError{Step: capture.StepRules, Err: unix.ENOENT})
	if err.Step != string(capture.StepRules) || !errors.Is(err.error(), unix.ENOENT) {
		t.Errorf("%+v", err)
	}
	var commandError *CommandError
	if err := failureOf("x", &CommandError{"c", unix.EACCES}).error(); !errors.As(err, &commandError) || commandError.ExitCode() != 126 {
		t.Errorf("%v", err)
	}
}
