package capture

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// withoutCookieRole is on a kernel before Linux 5.14: a filter answers as that one does.
func withoutCookieRole() int {
	runtime.LockOSThread()
	const number, option = 0, 16 + 2*8 // of struct seccomp_data: the call, and its third argument
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: number},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_GETSOCKOPT, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: option},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SO_NETNS_COOKIE, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOPROTOOPT)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		fmt.Println(err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program))); errno != 0 {
		fmt.Println(errno)
	}
	files, inside, err := SetUpNamespace(Options{Ask: true})
	CloseFiles(files)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(inside.Asker == nil, inside.WithoutAsker)
	return 0
}

// An Asker that asks nothing would be a lower level without a word.
func TestAKernelThatNumbersNoNetworksHasNoAskerAndSaysSo(t *testing.T) {
	said, say, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	namespaceInto(t, "without-cookie", say, nil)
	say.Close()
	line, err := bufio.NewReader(said).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "true the number of a network namespace: ") {
		t.Errorf("it says %q, %v", line, err)
	}
}
