package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestProcessNumbersOfNearSandboxesLieFarApart(t *testing.T) {
	for most, apart := range map[int]int{defaultMaxPid: 40, 4 << 20: 5000} {
		var all []int
		for init := 2000; init < 2300; init++ {
			first := firstPid(pidSeed(init), most)
			if first < reservedPids || first > most-reservedPids {
				t.Errorf("of %d: %d", most, first)
			}
			for _, other := range all {
				if gap := first - other; -apart < gap && gap < apart {
					t.Fatalf("of %d: %d and %d", most, first, other)
				}
			}
			all = append(all, first)
		}
	}
	if got := firstPid(1<<63, 301); got != reservedPids {
		t.Errorf("of 301: %d", got)
	}
}

// numberInside starts a shell that says its process number and stays until the test's end.
func numberInside(t *testing.T) int {
	t.Helper()
	said, say, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	stays, end, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end.Close() })
	p := newPlace(t, Config{Command: []string{"sh", "-c", "echo $$; read forever"}, Stdin: stays, Stdout: say})
	stays.Close()
	say.Close()
	if err := p.Start(nil); err != nil {
		t.Fatal(err)
	}
	var number int
	if _, err := fmt.Fscan(said, &number); err != nil {
		t.Fatal(err)
	}
	return number
}

func TestTwoSandboxesAtOnceCountTheirProcessesApart(t *testing.T) {
	needSandbox(t)
	first, second := numberInside(t), numberInside(t)
	if gap := first - second; -reservedPids < gap && gap < reservedPids {
		t.Errorf("the commands are the processes %d and %d", first, second)
	}
}

// aNameOfOurs makes this process's user have a name that nobody else has.
func aNameOfOurs(t *testing.T) (name string) {
	t.Helper()
	name = "sluice-test-" + strconv.Itoa(os.Getpid())
	t.Setenv("USER", name)
	t.Cleanup(func() { os.RemoveAll(performancePrefix + name) })
	return name
}

func TestFilesOfJVMsOutsideAreNeitherSeenNorTakenAway(t *testing.T) {
	needSandbox(t)
	folder := performancePrefix + aNameOfOurs(t)
	if err := errors.Join(os.Mkdir(folder, 0o755), os.WriteFile(filepath.Join(folder, "7"), []byte("outside"), 0o600)); err != nil {
		t.Fatal(err)
	}
	output, exit, _ := inside(t, "sh", "-c", `ls -A "$1"; rm -f "$1/7"; echo inside >"$1/8" && cat "$1/8"; stat -c '%a %u' "$1"`, "sh", folder)
	if want := "inside\n755 " + whoAmI() + "\n"; exit != 0 || output != want {
		t.Errorf("exit %d: %q, want %q", exit, output, want)
	}
	left, err := os.ReadDir(folder)
	if err != nil || len(left) != 1 || left[0].Name() != "7" {
		t.Errorf("outside there is now %v (%v)", left, err)
	}
}

func TestNothingIsMadeInTheMachinesTmpForJVMs(t *testing.T) {
	needSandbox(t)
	folder := performancePrefix + aNameOfOurs(t)
	inside(t, "true")
	if _, err := os.Lstat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", folder, err)
	}
}

// Everybody may write to /tmp: what is not a folder of the command's user is left alone.
func TestALinkInThePlaceOfAJVMsFolderIsNotFollowed(t *testing.T) {
	needSandbox(t)
	elsewhere := newOutside(t)
	if err := errors.Join(os.Symlink(elsewhere.folder, performancePrefix+aNameOfOurs(t)), os.WriteFile(elsewhere.path("seen"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if output, exit, _ := inside(t, "ls", elsewhere.folder); exit != 0 || output != "seen\n" {
		t.Errorf("exit %d: %q", exit, output)
	}
}

func TestAFolderOfAnotherUsersJVMsIsLeftAsItIs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root makes a file of another user")
	}
	needSandbox(t)
	folder := performancePrefix + aNameOfOurs(t)
	if err := errors.Join(os.Mkdir(folder, 0o755), os.WriteFile(filepath.Join(folder, "7"), nil, 0o644), os.Chown(folder, ordinaryUser, ordinaryUser)); err != nil {
		t.Fatal(err)
	}
	if output, exit, _ := inside(t, "ls", folder); exit != 0 || output != "7\n" {
		t.Errorf("exit %d: %q", exit, output)
	}
}

func TestAUsersNameIsNotAPath(t *testing.T) {
	t.Setenv("USER", "../etc")
	t.Setenv("LOGNAME", "")
	for _, folder := range performanceFolders(os.Geteuid()) {
		if filepath.Dir(folder) != "/tmp" || folder == performancePrefix {
			t.Errorf("%q", folder)
		}
	}
}

const sleeperClass = `public class Sleeper { public static void main(String[] a) throws Exception { System.in.read(); } }`

// Two JVMs that live at once in two sandboxes, of the same user and in the same folder, are
// asked by jcmd, each from its own.
func TestJVMsOfTwoSandboxesDoNotDisturbOneAnother(t *testing.T) {
	needSandbox(t)
	for _, program := range []string{"java", "javac", "jcmd"} {
		needProgram(t, program)
	}
	if testing.Short() {
		t.Skip("four JVMs take seconds")
	}
	who := map[string]*Identity{"as who we are": nil}
	if os.Geteuid() == 0 {
		who["as another user"] = &Identity{UID: ordinaryUser, GID: ordinaryUser}
	}
	for name, runAs := range who {
		t.Run(name, func(t *testing.T) { twoJVMs(t, runAs) })
	}
}

func twoJVMs(t *testing.T, runAs *Identity) {
	folder, err := os.MkdirTemp("/tmp", "java-") // TempDir is for us alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	source := filepath.Join(folder, "Sleeper.java")
	if err := errors.Join(os.Chmod(folder, 0o777), os.WriteFile(source, []byte(sleeperClass), 0o644)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "javac", "-J-XX:-UsePerfData", source).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// The JVM of each waits until both were asked.
	const script = `mkfifo go.$1
java -cp . Sleeper <go.$1 & jvm=$!
exec 3>go.$1
until jcmd -l | grep -q Sleeper; do :; done
: >up.$1
until [ -e up.1 ] && [ -e up.2 ]; do :; done
echo "$(jcmd -l | grep -c Sleeper) JVM"
jcmd $jvm VM.version | grep -c HotSpot\\\|OpenJDK
: >asked.$1
until [ -e asked.1 ] && [ -e asked.2 ]; do :; done
exec 3>&-
wait $jvm`
	var places []*place
	for _, n := range []string{"1", "2"} {
		p := newPlace(t, Config{Command: []string{"sh", "-c", script, "sh", n}, Dir: folder, RunAs: runAs})
		if err := p.Start(nil); err != nil {
			t.Fatal(err)
		}
		places = append(places, p)
	}
	for i, p := range places {
		exit, err := p.Wait()
		if output := <-p.output; err != nil || exit != 0 || output != "1 JVM\n1\n" {
			t.Errorf("sandbox %d: exit %d, %v: %s", i+1, exit, err, strings.TrimSpace(output))
		}
	}
}
