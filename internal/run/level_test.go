package run

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// filterRole asks for a seccomp filter that notifies, as sandboxes of others do.
func filterRole() int {
	runtime.LockOSThread()
	allow := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}}
	program := unix.SockFprog{Len: 1, Filter: &allow[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		fmt.Println(err)
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&program)))
	fmt.Println("seccomp:", errno)
	return 0
}

// The line comes from the sandbox while the command runs; so the command ends when it
// is told to.
func TestALevelThatIsLowerIsSaidUnasked(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, unsupervised := range []string{"", "1"} {
		c := ours(t, "run", self)
		c.Env = append(c.Env, "INNER=filter", "UNSUPERVISED="+unsupervised)
		output, err := c.CombinedOutput()
		said := string(output)
		if err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		lowered := strings.Contains(said, "sluice: socket files that appear after the start are in reach")
		refused := strings.Contains(said, "--unsupervised leaves it to the program") && strings.Contains(said, "seccomp: device or resource busy")
		if lowered != (unsupervised != "") || refused != (unsupervised == "") {
			t.Errorf("unsupervised %q: %s", unsupervised, said)
		}
	}
}
