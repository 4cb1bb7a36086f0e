package sandbox

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// filterRole asks for a seccomp filter that notifies, as some sandboxes do.
func filterRole([]string) int {
	runtime.LockOSThread()
	allow := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}}
	for range 3 {
		_, err := seccomp(allow, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)
		fmt.Println(err)
	}
	_, err := seccomp(allow, 0)
	fmt.Println(err)
	return 0
}

func TestAProgramThatBringsAFilterThatNotifiesIsRefusedAloud(t *testing.T) {
	p := newPlace(t, Config{Command: []string{"filter"}})
	before := p.Enforcement().Lowered // what this kernel lacks
	if slices.ContainsFunc(before, func(s string) bool { return strings.Contains(s, "socket files") }) {
		t.Errorf("the level is lowered: %q", before)
	}
	output, _ := p.run(t)
	if busy := "device or resource busy\n"; output != busy+busy+busy+"<nil>\n" {
		t.Error(output)
	}
	select {
	case <-p.FilterRefused():
	default:
		t.Error("nobody was told")
	}
	p = newPlace(t, Config{Command: []string{"filter"}, Unsupervised: true})
	e := p.Enforcement()
	if len(e.Lowered) != len(before)+1 || !strings.Contains(e.Lowered[0], "it was asked for") || !slices.Contains(e.Notes, e.Lowered[0]) {
		t.Errorf("%+v", e)
	}
	if output, _ := p.run(t); !strings.HasPrefix(output, "<nil>\n") {
		t.Error(output)
	}
}

// nestedLevelRole says what a sandbox inside this one says of itself.
func nestedLevelRole([]string) int {
	s, err := New(context.Background(), Config{Command: []string{"true"}})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(s.Enforcement().Lowered)
	s.Kill()
	s.Wait()
	return 0
}

func TestASandboxInsideASandboxSaysThatItsLevelIsLower(t *testing.T) {
	output, exit, _ := inside(t, "nested-level")
	if os.Geteuid() == 0 {
		return // root's does not start: see TestASandboxInsideASandbox
	}
	if exit != 0 || !strings.Contains(output, "a sandbox or a seccomp filter around this one") {
		t.Errorf("exit %d: %s", exit, output)
	}
}
