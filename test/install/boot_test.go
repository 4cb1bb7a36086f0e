package install

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/test/bare"
	"sluice.dev/sluice/test/mesh"
)

// bootVariable asks for the tests that boot a system.
const bootVariable = "SLUICE_SYSTEMD"

// masked are units of Debian that would set up a machine, of which there is none of its own
// here.
var masked = []string{
	"systemd-udevd.service", "systemd-udev-trigger.service", "systemd-udevd-kernel.socket", "systemd-udevd-control.socket", "systemd-modules-load.service",
	"systemd-sysctl.service", "systemd-binfmt.service", "systemd-remount-fs.service", "systemd-random-seed.service", "systemd-timesyncd.service",
	"systemd-logind.service", "systemd-networkd.service", "getty.target", "console-getty.service", "dev-hugepages.mount", "dev-mqueue.mount",
	"sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-kernel-config.mount", "sys-fs-fuse-connections.mount", "apt-daily.timer", "apt-daily-upgrade.timer",
	"kmod-static-nodes.service", "modprobe@.service", "systemd-journald-audit.socket",
}

// machine is a Debian that booted.
type machine struct {
	cmd *exec.Cmd
	log *bytes.Buffer // of process 1; read once it ended
}

// boot boots a bare Debian in which Sluice is installed, and skips where that cannot be.
func boot(t *testing.T, bin string) *machine {
	t.Helper()
	if _, err := exec.LookPath("nsenter"); err != nil {
		t.Skip("nsenter (util-linux) is missing")
	}
	root := bare.New(t, "systemd", "systemd-sysv", "dbus")
	installed := t.TempDir()
	runMake(t, bin, "install", "DESTDIR="+installed, "PREFIX=/usr")
	root.CopyTree(t, installed, "/")
	for _, unit := range masked {
		root.Link(t, "/dev/null", "/etc/systemd/system/"+unit)
	}
	m := &machine{log: new(bytes.Buffer)}
	cmd, err := root.Command(context.Background(), bare.Entered{
		Cgroup: bare.Cgroup(t), Env: []string{"container=test", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
	}, "/lib/systemd/systemd", "--unit=multi-user.target", "--log-target=console", "--log-level=warning", "--show-status=0")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = m.log, m.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.cmd = cmd
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // and all that run in it with it
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("systemd:\n%s", m.log)
		}
	})
	mesh.Eventually(t, func() string {
		said, code := m.run(t, "systemctl", "is-system-running")
		if said = strings.TrimSpace(said); said == "running" || said == "degraded" {
			return ""
		}
		return fmt.Sprintf("the system is %q (%d)", said, code)
	})
	return m
}

// run runs a command in the machine as root, and returns all that it said and its status.
func (m *machine) run(t *testing.T, words ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	inside := append([]string{"--target", strconv.Itoa(m.cmd.Process.Pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_PAGER="}, words...)
	cmd := exec.CommandContext(ctx, "nsenter", inside...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("nsenter: %v", err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// must is run of what has to end with 0.
func (m *machine) must(t *testing.T, words ...string) string {
	t.Helper()
	out, code := m.run(t, words...)
	if code != 0 {
		logs, _ := m.run(t, "journalctl", "--no-pager", "-n", "40")
		t.Fatalf("%s: exit %d\n%s\nthe journal:\n%s", strings.Join(words, " "), code, out, logs)
	}
	return out
}

// show returns properties of a unit.
func (m *machine) show(t *testing.T, unit string, names ...string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for line := range strings.Lines(m.must(t, "systemctl", "show", unit, "--property="+strings.Join(names, ","))) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		found[name] = value
	}
	return found
}

// asSluice begins a command of the user of the services.
func asSluice(words ...string) []string {
	return append([]string{"runuser", "-u", "sluice", "--", "env", "SLUICE_RUNTIME=/run/sluice"}, words...)
}

func TestTheUnitsUnderASystemdThatBooted(t *testing.T) {
	if os.Getenv(bootVariable) == "" {
		t.Skip("it makes a Debian and boots it: make test-systemd, or " + bootVariable + "=1")
	}
	began := time.Now()
	bin := mesh.Build(t, "./cmd/...")
	m := boot(t, bin)
	t.Logf("booted after %s", time.Since(began).Round(time.Second))

	// As the page Operate says. A start returns when the service said that it is ready.
	m.must(t, "systemd-sysusers")
	m.must(t, "systemctl", "daemon-reload")
	m.must(t, "systemctl", "enable", "--now", "sluice-server", "sluice-proxy")
	pids := make(map[string]string)
	for _, unit := range []string{"sluice-server", "sluice-proxy"} {
		state := m.show(t, unit, "Type", "ActiveState", "SubState", "MainPID", "NRestarts")
		if state["Type"] != "notify" || state["ActiveState"] != "active" || state["SubState"] != "running" || state["MainPID"] == "0" || state["NRestarts"] != "0" {
			t.Errorf("%s is %v", unit, state)
		}
		pids[unit] = state["MainPID"]
		status := m.must(t, "cat", "/proc/"+state["MainPID"]+"/status")
		for _, want := range []string{`CapEff:\t0+\n`, `CapBnd:\t0+\n`, `NoNewPrivs:\t1\n`, `Seccomp:\t0\n`} {
			if !regexp.MustCompile(want).MatchString(status) {
				t.Errorf("%s has no line %q in its status:\n%s", unit, want, status)
			}
		}
		exposure := regexp.MustCompile(`Overall exposure level for \S+: (\d+\.\d)`).FindStringSubmatch(m.must(t, "systemd-analyze", "security", "--no-pager", unit))
		if exposure == nil {
			t.Fatalf("systemd-analyze security says no level of %s", unit)
		}
		t.Logf("exposure of %s: %s", unit, exposure[1])
		if level, err := strconv.ParseFloat(exposure[1], 64); err != nil || level > 5.8 {
			t.Errorf("the exposure of %s is %s: want at most 5.8", unit, exposure[1])
		}
	}
	for _, folder := range []string{"/run/sluice", "/var/lib/sluice"} {
		if got := strings.TrimSpace(m.must(t, "stat", "-c", "%U:%G %a", folder)); got != "sluice:sluice 700" {
			t.Errorf("%s is %s", folder, got)
		}
	}

	// Its user commands it, root does not, and a workload joins.
	m.must(t, "sh", "-c", "cat > /tmp/rule.yaml <<'E'\napiVersion: sluice.dev/v1alpha1\nkind: EgressPolicy\nmetadata: {name: books}\nspec: {to: {hosts: [books.example.com], ports: [{port: 443, protocol: https}]}}\nE\n")
	if said := m.must(t, asSluice("sluice", "apply", "-f", "/tmp/rule.yaml")...); !strings.Contains(said, "Created config egress-policy/default/books") {
		t.Errorf("apply: %s", said)
	}
	if said, code := m.run(t, "env", "SLUICE_RUNTIME=/run/sluice", "sluice", "status"); code != 1 || !strings.Contains(said, "sluice") {
		t.Errorf("root's status ends with %d: %s", code, said)
	}
	if said := m.must(t, asSluice("sluice", "run", "--service", "details", "--", "sluice", "version", "--short")...); said == "" {
		t.Error("the command in a sandbox said nothing")
	}

	// A restart keeps the rules, and the other service goes on.
	m.must(t, "systemctl", "restart", "sluice-server")
	after := m.show(t, "sluice-server", "ActiveState", "MainPID")
	if after["ActiveState"] != "active" || after["MainPID"] == pids["sluice-server"] {
		t.Errorf("restarted: %v, before it was process %s", after, pids["sluice-server"])
	}
	if proxy := m.show(t, "sluice-proxy", "ActiveState", "MainPID"); proxy["MainPID"] != pids["sluice-proxy"] || proxy["ActiveState"] != "active" {
		t.Errorf("the proxy was process %s and is %v", pids["sluice-proxy"], proxy)
	}
	if said := m.must(t, asSluice("sluice", "get", "egresspolicies")...); !strings.Contains(said, "books.example.com") {
		t.Errorf("after a restart there is\n%s", said)
	}

	// One that is killed comes back by itself.
	m.must(t, "systemctl", "kill", "--signal=KILL", "sluice-server")
	mesh.Eventually(t, func() string {
		now := m.show(t, "sluice-server", "ActiveState", "SubState", "MainPID", "NRestarts")
		if now["ActiveState"] == "active" && now["SubState"] == "running" && now["NRestarts"] == "1" && now["MainPID"] != after["MainPID"] {
			return ""
		}
		return fmt.Sprintf("killed, it is %v", now)
	})
	m.must(t, asSluice("sluice", "status")...)

	// A stop is an end without a failure, and leaves the folders to the other one.
	m.must(t, "systemctl", "stop", "sluice-server")
	if stopped := m.show(t, "sluice-server", "ActiveState", "Result", "ExecMainStatus"); stopped["ActiveState"] != "inactive" || stopped["Result"] != "success" || stopped["ExecMainStatus"] != "0" {
		t.Errorf("stopped: %v", stopped)
	}
	if proxy := m.show(t, "sluice-proxy", "ActiveState", "MainPID"); proxy["MainPID"] != pids["sluice-proxy"] || proxy["ActiveState"] != "active" {
		t.Errorf("beside a server that was stopped the proxy is %v", proxy)
	}
	m.must(t, "test", "-S", "/run/sluice/attach.sock")
	m.must(t, "systemctl", "start", "sluice-server")
	m.must(t, asSluice("sluice", "status")...)
	m.must(t, "systemctl", "stop", "sluice-proxy", "sluice-server")
	if stopped := m.show(t, "sluice-proxy", "ActiveState", "Result", "ExecMainStatus"); stopped["ActiveState"] != "inactive" || stopped["Result"] != "success" || stopped["ExecMainStatus"] != "0" {
		t.Errorf("the proxy stopped: %v", stopped)
	}
	if journal := m.must(t, "journalctl", "--no-pager", "-u", "sluice-server"); !strings.Contains(journal, "msg=ready") || !strings.Contains(journal, "msg=stopped") {
		t.Errorf("the journal has\n%s", journal)
	}

	// A setting that is wrong does not start it over and over.
	m.must(t, "sh", "-c", "mkdir -p /etc/sluice && echo SLUICE_API_LISTEN=nowhere > /etc/sluice/server.env")
	if said, code := m.run(t, "systemctl", "start", "sluice-server"); code == 0 {
		t.Errorf("with a wrong setting it starts: %s", said)
	}
	if failed := m.show(t, "sluice-server", "ActiveState", "ExecMainStatus", "NRestarts"); failed["ActiveState"] != "failed" || failed["ExecMainStatus"] != "2" || failed["NRestarts"] != "0" {
		t.Errorf("with a wrong setting: %v", failed)
	}
}
