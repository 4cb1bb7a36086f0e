package test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/test/mesh"
)

// needMake skips where there is no GNU make, but fails in CI.
func needMake(t *testing.T) {
	t.Helper()
	if output, err := exec.CommandContext(t.Context(), "make", "--version").Output(); err != nil || !strings.HasPrefix(string(output), "GNU Make") {
		if os.Getenv("CI") == "true" {
			t.Fatal("GNU make is missing", err)
		}
		t.Skip("GNU make is missing")
	}
}

// waysToRun are the flags with which a user runs a command.
func waysToRun(who mesh.User) map[string][]string {
	ways := map[string][]string{"plain": nil}
	if who.UID < 0 && os.Geteuid() == 0 {
		ways["as another user"] = []string{"--run-as", "1000"}
	}
	return ways
}

// Each job of the make inside waits until so many run as there are tokens, and says how many
// it has seen. One more would be a token that nobody gave.
const (
	outerMake = `all:
	+@$(SLUICE) run -q $(FLAGS) -- $(MAKE) --no-print-directory -f inner.mk
`
	innerMake = `JOBS = 1 2 3 4 5 6
all: $(JOBS)
$(JOBS):
	@mkdir running/$@; i=0; until [ -e running/full ] || [ $$i = 500 ]; do \
		[ $$(ls running | wc -l) -lt 3 ] || >running/full; sleep 0.02; i=$$((i+1)); done; \
		n=$$(ls running | grep -vc full); rmdir running/$@; [ $$n -le 3 ] && [ $$i -lt 500 ] && echo ok || echo "$$n at once, after $$i turns"
`
)

func TestAMakeInsideTakesPartInTheJobserverOutside(t *testing.T) {
	needMake(t)
	for _, who := range mesh.Users(t) {
		for way, flags := range waysToRun(who) {
			t.Run(who.Name+" "+way, func(t *testing.T) {
				place := mesh.NewPlace(t, who)
				folder := filepath.Dir(place.Runtime)
				running := filepath.Join(folder, "running")
				err := errors.Join(
					os.WriteFile(filepath.Join(folder, "outer.mk"), []byte(outerMake), 0o644), os.WriteFile(filepath.Join(folder, "inner.mk"), []byte(innerMake), 0o644),
					os.Mkdir(running, 0o777), os.Chmod(running, 0o777), os.Chmod(folder, 0o755))
				if err != nil {
					t.Fatal(err)
				}
				r := place.Run(t, "", "/usr/bin/make", "-f", "outer.mk", "-j3", "SLUICE="+filepath.Join(place.Bin, "sluice"), "FLAGS="+strings.Join(flags, " "))
				if r.Code != 0 || r.Stdout != strings.Repeat("ok\n", 6) || r.Stderr != "" { // make counts its tokens at the end
					t.Errorf("exit %d: %s%s", r.Code, r.Stdout, r.Stderr)
				}
			})
		}
	}
}

func TestAMakeInsideWarnsOfAJobserverThatIsClosed(t *testing.T) {
	needMake(t)
	place := mesh.NewPlace(t, mesh.User{Name: "user", UID: -1})
	command := place.Command(t.Context(), "sluice", "run", "--", "sh", "-c", "printf 'all:\n\t@echo made\n' | make -f -")
	command.Env = append(command.Env, "MAKEFLAGS= -j4 --jobserver-auth=3,4")
	file, err := os.Open("/etc/passwd") // what is no pipe is not passed
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	command.ExtraFiles = []*os.File{file, file}
	if r := mesh.Finish(t, command, ""); r.Code != 0 || r.Stdout != "made\n" || !strings.Contains(r.Stderr, "jobserver unavailable") || strings.Contains(r.Stderr, "sluice:") {
		t.Errorf("exit %d: %q, %q", r.Code, r.Stdout, r.Stderr)
	}
}

// The FIFO of a make from 4.4 on lies in /tmp, of which --workdir-only leaves nothing.
func TestTheFIFOOfAJobserverIsReachedAndNothingBesideIt(t *testing.T) {
	for _, who := range mesh.Users(t) {
		t.Run(who.Name, func(t *testing.T) {
			place := mesh.NewPlace(t, who)
			folder, err := os.MkdirTemp("/tmp", "make-")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(folder) })
			work, err := os.MkdirTemp("/usr/local", "work-")
			if err != nil {
				t.Skip(err)
			}
			t.Cleanup(func() { os.RemoveAll(work) })
			fifo := filepath.Join(folder, "GMfifo1")
			err = errors.Join(os.Chmod(folder, 0o755), os.Chmod(work, 0o755), unix.Mkfifo(fifo, 0o600), os.WriteFile(filepath.Join(folder, "beside"), []byte("beside"), 0o644))
			if who.UID >= 0 {
				err = errors.Join(err, os.Chown(fifo, who.UID, who.UID))
			}
			if err != nil {
				t.Fatal(err)
			}
			tokens, err := os.OpenFile(fifo, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer tokens.Close()
			fmt.Fprint(tokens, "+++\n")
			run := func(flags string) mesh.Result {
				command := place.Command(t.Context(), "sluice", "run", "--workdir-only", "--", "bash", "-c", `ls "${1%/*}"; [ ! -e "$1" ] || { read -r tokens <"$1"; echo "$tokens"; printf given >"$1"; }`, "bash", fifo)
				command.Dir = work
				command.Env = append(command.Env, "HOME=/tmp", "MAKEFLAGS= -j4 --jobserver-auth="+flags)
				return mesh.Finish(t, command, "")
			}
			if r := run("fifo:" + fifo); r.Code != 0 || r.Stdout != "GMfifo1\n+++\n" {
				t.Errorf("exit %d: %q, %q", r.Code, r.Stdout, r.Stderr)
			}
			given := make([]byte, 16)
			if n, err := tokens.Read(given); string(given[:n]) != "given" || err != nil {
				t.Errorf("outside: %q, %v", given[:n], err)
			}
			// What is no FIFO is not shown for the asking.
			if r := run("fifo:" + filepath.Join(folder, "beside")); strings.Contains(r.Stdout, "beside") {
				t.Errorf("beside: %q, %q", r.Stdout, r.Stderr)
			}
		})
	}
}

// bash says what a shell around sluice run does.
func bash(t *testing.T, place *mesh.Place, script string) mesh.Result {
	t.Helper()
	return place.Run(t, "", "/bin/bash", "-c", script, "bash", filepath.Join(place.Bin, "sluice"))
}

func TestProcessSubstitutionWorksWhereItIsNamedAndIsToldWhereItIsNot(t *testing.T) {
	for _, who := range mesh.Users(t) {
		t.Run(who.Name, func(t *testing.T) {
			place := mesh.NewPlace(t, who)
			r := bash(t, place, `"$1" run --fd 63,62 -- cat <(echo one) <(echo two)`)
			if r.Code != 0 || r.Stdout != "one\ntwo\n" || r.Stderr != "" {
				t.Errorf("named: exit %d: %q, %q", r.Code, r.Stdout, r.Stderr)
			}
			r = bash(t, place, `"$1" run --fd 62 -- cat <(echo one) <(echo two)`)
			if r.Code != 1 || r.Stdout != "two\n" || !strings.Contains(r.Stderr, "sluice: /dev/fd/63 is closed inside; --fd 63 passes it to the command\n") {
				t.Errorf("one is named: exit %d: %q, %q", r.Code, r.Stdout, r.Stderr)
			}
			r = bash(t, place, `"$1" run -- cat <(echo one) --file=<(echo two)`)
			if r.Stdout != "" || !strings.Contains(r.Stderr, "sluice: /dev/fd/63 and /dev/fd/62 are closed inside; --fd 63 --fd 62 passes them to the command\n") {
				t.Errorf("none is: %q, %q", r.Stdout, r.Stderr)
			}
			r = bash(t, place, `"$1" run -- echo /dev/fd/77 /dev/fd/ /dev/fd/1 5</etc/passwd /dev/fd/5`)
			if r.Code != 0 || r.Stderr != "" {
				t.Errorf("what is no pipe: exit %d, %q", r.Code, r.Stderr)
			}
		})
	}
}

// The kernel lets a user open only a pipe of its own by name; by number it is open.
func TestAPipeReachesACommandOfAnotherUserByItsNumber(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root runs a command as another user")
	}
	r := bash(t, mesh.NewPlace(t, mesh.User{Name: "root", UID: -1}), `"$1" run --run-as 1000 --fd 3 -- sh -c 'cat <&3; id -u' 3< <(echo one)`)
	if r.Code != 0 || r.Stdout != "one\n1000\n" || r.Stderr != "" {
		t.Errorf("exit %d: %q, %q", r.Code, r.Stdout, r.Stderr)
	}
}

func TestADescriptorThatIsNoPipeIsRefusedBeforeTheCommandStarts(t *testing.T) {
	place := mesh.NewPlace(t, mesh.User{Name: "user", UID: -1})
	for script, want := range map[string]string{
		`"$1" run --fd 9 -- echo started`:                                                     "Error: --fd: descriptor 9 is not open\n",
		`"$1" run --fd 3 -- echo started 3>&-`:                                                "Error: --fd: descriptor 3 is not open\n", // where we have something of ours
		`"$1" run --fd 3 -- echo started 3</etc/passwd`:                                       "Error: --fd: descriptor 3 is a file, which the command opens by its name; only pipes are passed to a command\n",
		`"$1" run --fd 3 -- echo started 3</`:                                                 "Error: --fd: descriptor 3 is a folder",
		`"$1" run --fd 3 -- echo started 3<>/dev/null`:                                        "Error: --fd: descriptor 3 is a device",
		`"$1" run --fd 0 -- echo started`:                                                     "Error: --fd: descriptor 0 is no pipe to pass",
		`"$1" run --fd 5000 -- echo started`:                                                  "Error: --fd: descriptor 5000 is not open\n",
		`"$1" run --fd x -- echo started`:                                                     `Error: --fd "x" must be the number of an open pipe, from 3 to 1023` + "\n",
		`"$1" run --fd -4 -- echo started`:                                                    `Error: --fd "-4" must be the number of an open pipe, from 3 to 1023` + "\n",
		`"$1" run --fd 3 --fd 3 -- echo started 3< <(:)`:                                      "Error: --fd: descriptor 3 is there twice\n",
		`MAKEFLAGS=" --jobserver-auth=3,4" "$1" run --fd 3,5 -- echo started 3< <(:) 4> >(:)`: "Error: --fd: descriptor 5 is not open\n",
	} {
		if r := bash(t, place, script); r.Code != 125 || r.Stdout != "" || !strings.HasPrefix(r.Stderr, want) {
			t.Errorf("%s: exit %d, %q, %q, want %q", script, r.Code, r.Stdout, r.Stderr, want)
		}
	}
}
