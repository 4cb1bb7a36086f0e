package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestWhatTheMachineGivesIsTried(t *testing.T) {
	needSandbox(t)
	m, err := Examine()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range m.Namespaces {
		// The sandbox that the test needs has all of these.
		if n.Error != "" && slices.Contains([]string{"network", "pid", "mount", "ipc"}, n.Kind) {
			t.Errorf("a namespace of kind %s: %s", n.Kind, n.Error)
		}
	}
	if len(m.Namespaces) != 6 || m.Kernel == "" || m.Cgroups == "" || m.Landlock >= scopesABI != hasScopes() {
		t.Errorf("%+v", m)
	}
	held, err := Try(t.Context())
	if err != nil || held.Level != LevelSandbox {
		t.Errorf("a sandbox: %+v, %v", held, err)
	}
}

func TestWhatTheMachineRefusesIsFoundByTrying(t *testing.T) {
	needSandbox(t)
	output := roleInMounts(t, "examined")
	want := "user: no space left on device\nnetwork: no space left on device\n" + string(NamespaceLimit) + "\n"
	if output != want {
		t.Errorf("%q, want %q", output, want)
	}
}

// examinedRole looks at a machine whose limits of user and network namespaces are 0.
func examinedRole([]string) int {
	for _, kind := range []string{"user", "net"} {
		if err := os.WriteFile("/proc/sys/user/max_"+kind+"_namespaces", []byte("0"), 0); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	m, err := Examine()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for _, n := range m.Namespaces {
		if n.Kind == "user" || n.Kind == "network" {
			fmt.Printf("%s: %s\n", n.Kind, n.Error)
		}
	}
	_, err = Try(context.Background())
	var unavailable *UnavailableError
	if !errors.As(err, &unavailable) {
		fmt.Println("not an UnavailableError:", err)
		return 1
	}
	fmt.Println(unavailable.Reason)
	return 0
}

func TestATrialEndsWithItsContext(t *testing.T) {
	needSandbox(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Try(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a trial that was given up: %v", err)
	}
}

func TestTheVersionsOfCgroupsAreThoseThatAreMounted(t *testing.T) {
	for want, kinds := range map[string][]string{
		"none": {"tmpfs"}, "version 1": {"cgroup", "cgroup"}, "version 2": {"tmpfs", "cgroup2"}, "version 1 and 2": {"cgroup2", "cgroup"},
	} {
		var all []mounted
		for _, kind := range kinds {
			all = append(all, mounted{kind: kind})
		}
		if got := cgroupVersions(all); got != want {
			t.Errorf("%v: %s", kinds, got)
		}
	}
}

func TestForEachPartThatAKernelLacksThereIsSomethingToDo(t *testing.T) {
	whole := Machine{Landlock: scopesABI, Notification: true}
	for _, c := range []struct {
		change func(m *Machine)
		want   string
	}{
		{func(m *Machine) {}, ""},
		{func(m *Machine) { m.Landlock = 0 }, "lsm="},
		{func(m *Machine) { m.Landlock = scopesABI - 1 }, "Linux 6.12"},
		{func(m *Machine) { m.Notification = false }, "Linux 5.19"},
		{func(m *Machine) { m.Settings = []Setting{{"kernel.yama.ptrace_scope", "3"}} }, "ptrace_scope below 3"},
		{func(m *Machine) { m.Settings = []Setting{{"kernel.yama.ptrace_scope", "1"}} }, ""},
	} {
		m := whole
		c.change(&m)
		if got := strings.Join(m.More(), "\n"); c.want == "" && got != "" || !strings.Contains(got, c.want) || strings.Contains(got, "\n") {
			t.Errorf("%+v: %q, want %q", m, got, c.want)
		}
	}
}

func TestALimitIsTriedByACgroupThatIsRemoved(t *testing.T) {
	count := func() (all []string) {
		for _, folder := range OwnCgroups() {
			found, _ := filepath.Glob(filepath.Join(escapeGlob(folder), groupPrefix+fmt.Sprint(os.Getpid())+"-*"))
			all = append(all, found...)
		}
		return all
	}
	before := count()
	var flags []string
	for _, limit := range tryLimits() {
		flags = append(flags, limit.Flag)
		g, err := makeGroup(map[string]Resources{"--pids": {Pids: 9}, "--memory": {Memory: LeastMemory}, "--cpus": {CPUs: 2}}[limit.Flag])
		if (err == nil) != (limit.Error == "") {
			t.Errorf("%+v, but to set it says %v", limit, err)
		}
		if err == nil {
			g.remove()
		}
	}
	if strings.Join(flags, " ") != "--pids --memory --cpus" {
		t.Errorf("tried: %v", flags)
	}
	if after := count(); len(after) != len(before) {
		t.Errorf("it left %v", after)
	}
}
