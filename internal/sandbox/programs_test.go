package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Programs that use sockets among their own work as they do outside.
func TestProgramsThatTalkOverSocketsOfTheirOwnWork(t *testing.T) {
	needSandbox(t)
	tests := []struct {
		name, needs, script, want string
	}{
		{"tmux", "tmux", `tmux -f /dev/null -S "$PWD/t" new-session -d -s inside 'sleep 60' && tmux -S "$PWD/t" list-sessions -F '#S'; tmux -S "$PWD/t" kill-server`, "inside\n"},
		{"git's credential cache", "git", `
			git config --global credential.helper cache
			printf 'protocol=https\nhost=h.example\nusername=u\npassword=p\n\n' | git credential approve
			printf 'protocol=https\nhost=h.example\n\n' | GIT_TERMINAL_PROMPT=0 git credential fill | grep password
			git credential-cache exit`, "password=p\n"},
		{"Python's multiprocessing", "/usr/bin/python3", `/usr/bin/python3 -c '
from multiprocessing import Manager, Pool
def double(n): return 2 * n
if __name__ == "__main__":
    with Manager() as manager, Pool(2) as pool:
        shared = manager.dict(); shared["n"] = pool.map(double, [1, 2]); print(dict(shared))'`, "{'n': [2, 4]}\n"},
		{"node", "node", `node -e 'const net = require("net"); net.createServer(c => c.end("mine")).listen("n.sock", () => net.connect("n.sock").on("data", d => { console.log("" + d); process.exit() }))'`, "mine\n"},
		{"ssh-agent", "ssh-agent", `ssh-agent -a "$PWD/agent" sh -c 'ssh-keygen -q -t ed25519 -N "" -f key -C key && ssh-add -q key && ssh-add -l | cut -d" " -f3; kill $SSH_AGENT_PID'`, "key\n"},
		{"dbus", "dbus-run-session", `dbus-run-session --config-file=/usr/share/dbus-1/session.conf -- sh -c 'dbus-send --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.GetConnectionUnixUser string:org.freedesktop.DBus | tail -1 | tr -d " "' 2>/dev/null`, "uint32" + whoAmI() + "\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			needProgram(t, test.needs)
			runScript(t, test.script, test.want)
		})
	}
}

func whoAmI() string {
	out, _ := exec.Command("id", "-u").Output()
	return strings.TrimSpace(string(out))
}

// runScript runs it in a sandbox, in a folder of its own which is its home too.
func runScript(t *testing.T, script, want string) {
	t.Helper()
	folder := newOutside(t).folder
	p := newPlace(t, Config{Command: []string{"sh", "-c", script}, Dir: folder, Env: append(os.Environ(), "HOME="+folder)})
	if output, exit := p.run(t); exit != 0 || output != want {
		t.Errorf("exit %d: %q, want %q", exit, output, want)
	}
}

const waitsScript = "waits.py"

// A connect that has to wait does so as it does without a supervisor.
func TestAConnectWaitsAsItDoesOutside(t *testing.T) {
	needProgram(t, "/usr/bin/python3")
	script := filepath.Join(os.Getenv(asUserVariable), waitsScript)
	if os.Getenv(asUserVariable) == "" {
		var err error
		if script, err = filepath.Abs(filepath.Join("testdata", waitsScript)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := exec.CommandContext(t.Context(), "/usr/bin/python3", script).CombinedOutput()
	if err != nil {
		t.Fatalf("outside: %v\n%s", err, want)
	}
	output, exit, _ := inside(t, "/usr/bin/python3", script)
	if exit != 0 || output != string(want) || strings.Count(output, "\n") != 8 {
		t.Errorf("exit %d\n%s\noutside:\n%s", exit, output, want)
	}
}

func TestPostgreSQLKnowsItsPeer(t *testing.T) {
	for _, program := range []string{"initdb", "pg_ctl", "psql"} {
		needProgram(t, program)
	}
	if testing.Short() {
		t.Skip("initdb takes seconds")
	}
	config := Config{}
	folder := newOutside(t).folder
	if os.Geteuid() == 0 { // PostgreSQL does not run as root
		config.RunAs = &Identity{UID: ordinaryUser, GID: ordinaryUser}
		if err := os.Chown(folder, ordinaryUser, ordinaryUser); err != nil {
			t.Fatal(err)
		}
	}
	script := `
		initdb -D data --auth=peer --no-sync >/dev/null || exit 1
		pg_ctl -D data -w -o "-k $PWD -c listen_addresses=" -l log start >/dev/null || { cat log; exit 1; }
		psql -h "$PWD" -Atc 'select current_user = (select rolname from pg_roles where oid = 10)' postgres
		psql -h "$PWD" -U somebody-else -Atc 'select 1' postgres 2>&1 | grep -o 'Peer authentication failed'
		pg_ctl -D data -m immediate stop >/dev/null`
	config.Command, config.Dir = []string{"sh", "-c", script}, folder
	config.Env = append(os.Environ(), "HOME="+folder, "PATH="+folderOf(t, "initdb")+":/usr/bin:/bin", "LC_ALL=C")
	if output, exit := newPlace(t, config).run(t); exit != 0 || output != "t\nPeer authentication failed\n" {
		t.Errorf("exit %d: %s", exit, output)
	}
}

// folderOf returns the folder of a program that is there.
func folderOf(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(path)
}
