package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What the command sees of the machine's device files are those files: to write to them is
// no harm, and to change them is one for the whole machine.
func TestRootChangesNoDeviceFileOfTheMachine(t *testing.T) {
	needRoot(t)
	folder := newOutside(t).folder
	masked, other := filepath.Join(folder, "masked"), filepath.Join(folder, "dev")
	if err := errors.Join(os.WriteFile(masked, nil, 0o600), os.Mkdir(other, 0o755), unix.Mount("devtmpfs", other, "devtmpfs", 0, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(other, unix.MNT_DETACH) })
	script := `echo x >/dev/null && echo written
		for f in /dev/null /dev/zero /dev/full /dev/tty "$PWD/masked" dev/null dev/zero; do
			mode=$(stat -c %a $f) && chmod $mode $f && echo "chmod $f"; chown 0 $f && echo "chown $f"
		done
		ln dev/null dev/sluice-test && echo linked && rm dev/sluice-test
		touch dev/sluice-test && echo made && rm dev/sluice-test; true`
	for who, config := range map[string]Config{"root": {}, "root without capabilities": {NoFileCapabilities: true}} {
		config.Mask = []string{masked}
		if output, exit := scriptIn(t, config, folder, "{ "+script+"; } 2>/dev/null"); exit != 0 || output != "written\n" {
			t.Errorf("%s: exit %d: %s", who, exit, output)
		}
	}
}

func TestRootWritesNothingOfProcThatIsNotAProcess(t *testing.T) {
	needRoot(t)
	needProgram(t, "find")
	script := `find /proc -mindepth 1 -path '/proc/[0-9]*' -prune -o -type f -perm /222 -writable -print 2>/dev/null | head`
	for who, config := range map[string]Config{"root": {}, "root without capabilities": {NoFileCapabilities: true}} {
		if output, exit := scriptIn(t, config, "/", script); exit != 0 || output != "" {
			t.Errorf("%s: exit %d: it may write %s", who, exit, output)
		}
	}
}
