package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// attempt is something a command must not be able to do, and how it is refused.
// None of them may last: a refusal comes at once.
type attempt struct {
	name    string
	do      func() error
	refused []error
}

func call(number uintptr, arguments ...uintptr) error {
	var a [6]uintptr
	copy(a[:], arguments)
	_, _, errno := unix.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
	if errno != 0 {
		return errno
	}
	return nil
}

const high = 1 << 32 // a bit that the kernel does not look at

func TestRunIsHiddenButForWhatCommandsNeed(t *testing.T) {
	output, exit, _ := inside(t, "list", "/run", "/run/user")
	for _, name := range lines(output) {
		switch name {
		case "lock", "user", "secrets", resolvConfName, fmt.Sprint(os.Geteuid()):
		default:
			if target, err := os.Readlink("/run/" + name); err != nil || strings.HasPrefix(target, "/run") {
				t.Errorf("%s is seen", name)
			}
		}
	}
	if exit != 0 {
		t.Errorf("exit %d: %s", exit, output)
	}
}

func listRole(folders []string) int {
	for _, folder := range folders {
		entries, err := os.ReadDir(folder)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		for _, entry := range entries {
			fmt.Println(entry.Name())
		}
	}
	return 0
}

// A user namespace of the command's own gives it every capability there; the
// masks must stay all the same.
func TestANestedUserNamespaceUncoversNothing(t *testing.T) {
	needProgram(t, "unshare")
	masked := t.TempDir()
	if err := os.WriteFile(filepath.Join(masked, "secret"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`
		umount %[1]s && echo unmounted
		mkdir -p /tmp/nested-$$ && mount --bind / /tmp/nested-$$ && ls /tmp/nested-$$%[1]s
		ip link set lo down && echo lo is down
		rmdir /tmp/nested-$$
		ls %[1]s; echo tried`, masked)
	p := newPlace(t, Config{Command: []string{"unshare", nestedFlags(), "sh", "-c", script + " 2>/dev/null"}, Mask: []string{masked}})
	output, exit := p.run(t)
	if exit != 0 || !strings.HasSuffix(output, "tried\n") || strings.Contains(output, "secret") || strings.Contains(output, "unmounted") || strings.Contains(output, "down") {
		t.Errorf("exit %d: %s", exit, output)
	}
}

// In place of a masked file the command finds nothing to read, to write or to take
// away, in a user namespace of its own neither.
func TestAMaskedFileIsOutOfReach(t *testing.T) {
	needProgram(t, "unshare")
	folder := t.TempDir()
	file, link := filepath.Join(folder, "report"), filepath.Join(folder, "link")
	if err := os.WriteFile(file, []byte("secret"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`for file in %s %s; do cat $file; echo forged >$file; umount $file; mv $file $file.old; rm -f %[1]s; done 2>/dev/null; echo tried`, file, link)
	for _, command := range [][]string{{"sh", "-c", script}, {"unshare", nestedFlags(), "sh", "-c", script}} {
		p := newPlace(t, Config{Command: command, Mask: []string{link}})
		if output, _ := p.run(t); !strings.HasSuffix(output, "tried\n") || strings.Contains(output, "secret") {
			t.Errorf("%s read it, or tried nothing: %s", command[0], output)
		}
		if content, err := os.ReadFile(file); err != nil || string(content) != "secret" {
			t.Errorf("after %s it holds %q, %v", command[0], content, err)
		}
		os.Remove(link + ".old")
		if err := os.Symlink(file, link); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
}

func TestALeakedDescriptorDoesNotReachTheCommand(t *testing.T) {
	needSandbox(t)
	listener, err := net.ListenTCP("tcp", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	raw, _ := listener.SyscallConn()
	var leaked int
	raw.Control(func(fd uintptr) { leaked, err = unix.FcntlInt(fd, unix.F_DUPFD, 20) }) // without CLOEXEC
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leaked)
	output, exit, _ := inside(t, "list", "/proc/self/fd")
	for _, fd := range lines(output) {
		target, _ := os.Readlink("/proc/self/fd/" + fd)
		if fd == fmt.Sprint(leaked) {
			t.Errorf("descriptor %s (%s) reached the command", fd, target)
		}
	}
	if exit != 0 {
		t.Errorf("exit %d: %s", exit, output)
	}
}

// runFilter interprets the filter for one system call.
func runFilter(t *testing.T, supervised bool, number, architecture uint32, arguments ...uint64) uint32 {
	t.Helper()
	data := make([]byte, 64)
	binary.LittleEndian.PutUint32(data[offsetNumber:], number)
	binary.LittleEndian.PutUint32(data[offsetArchitecture:], architecture)
	for i, argument := range arguments {
		binary.LittleEndian.PutUint64(data[offsetArguments+8*i:], argument)
	}
	var accumulator uint32
	program := filter(supervised, false)
	for at := 0; at < len(program); at++ {
		instruction := program[at]
		jump := func(yes bool) {
			if yes {
				at += int(instruction.Jt)
			} else {
				at += int(instruction.Jf)
			}
		}
		switch instruction.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			accumulator = binary.LittleEndian.Uint32(data[instruction.K:])
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(accumulator == instruction.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(accumulator >= instruction.K)
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			jump(accumulator&instruction.K != 0)
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			accumulator &= instruction.K
		case unix.BPF_RET | unix.BPF_K:
			return instruction.K
		default:
			t.Fatalf("instruction %d: code %#x", at, instruction.Code)
		}
	}
	t.Fatal("the filter ends without an outcome")
	return 0
}

func TestTheFilterRefusesByTheLowHalfOfAnArgument(t *testing.T) {
	const native = nativeArchitecture
	allow := uint32(unix.SECCOMP_RET_ALLOW)
	tests := []struct {
		name                 string
		number, architecture uint32
		argument             []uint64
		want                 uint32
	}{
		{"a unix socket", unix.SYS_SOCKET, native, []uint64{unix.AF_UNIX}, allow},
		{"an IPv6 socket", unix.SYS_SOCKET, native, []uint64{unix.AF_INET6, unix.SOCK_DGRAM | unix.SOCK_CLOEXEC}, allow},
		{"a socket of TCP by its name", unix.SYS_SOCKET, native, []uint64{unix.AF_INET, unix.SOCK_STREAM | unix.SOCK_NONBLOCK, unix.IPPROTO_TCP}, allow},
		{"a socket of MPTCP", unix.SYS_SOCKET, native, []uint64{unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_MPTCP}, allow},
		{"ping", unix.SYS_SOCKET, native, []uint64{unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP}, allow},
		{"SCTP", unix.SYS_SOCKET, native, []uint64{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP}, refuseWith(unix.EPROTONOSUPPORT)},
		{"SCTP behind a high bit", unix.SYS_SOCKET, native, []uint64{unix.AF_INET6 | high, unix.SOCK_STREAM | high, unix.IPPROTO_SCTP | high}, refuseWith(unix.EPROTONOSUPPORT)},
		{"SCTP by its type", unix.SYS_SOCKET, native, []uint64{unix.AF_INET6, unix.SOCK_SEQPACKET | unix.SOCK_CLOEXEC}, refuseWith(unix.ESOCKTNOSUPPORT)},
		{"DCCP by its type", unix.SYS_SOCKET, native, []uint64{unix.AF_INET, unix.SOCK_DCCP}, refuseWith(unix.ESOCKTNOSUPPORT)},
		{"L2TP", unix.SYS_SOCKET, native, []uint64{unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_L2TP}, refuseWith(unix.EPROTONOSUPPORT)},
		{"packets by a type of IPv4", unix.SYS_SOCKET, native, []uint64{unix.AF_INET, unix.SOCK_PACKET}, refuseWith(unix.ESOCKTNOSUPPORT)},
		{"a netlink socket", unix.SYS_SOCKET, native, []uint64{unix.AF_NETLINK}, allow},
		{"vsock", unix.SYS_SOCKET, native, []uint64{unix.AF_VSOCK}, refuseWith(unix.EAFNOSUPPORT)},
		{"vsock behind a high bit", unix.SYS_SOCKET, native, []uint64{unix.AF_VSOCK | high}, refuseWith(unix.EAFNOSUPPORT)},
		{"TIOCSTI", unix.SYS_IOCTL, native, []uint64{0, unix.TIOCSTI | high}, refuseWith(unix.EPERM)},
		{"another ioctl", unix.SYS_IOCTL, native, []uint64{0, unix.TCGETS}, allow},
		{"another root", unix.SYS_PIVOT_ROOT, native, nil, refuseWith(unix.EPERM)},
		{"mounts of one's own", unix.SYS_UNSHARE, native, []uint64{unix.CLONE_NEWNS | unix.CLONE_NEWUSER}, allow},
		{"no mounts at all", unix.SYS_UNSHARE, native, []uint64{unix.CLONE_NEWNS | 0x00100000}, refuseWith(unix.EINVAL)},
		{"a copy of mounts", unix.SYS_OPEN_TREE, native, []uint64{0, 0, unix.OPEN_TREE_CLONE | unix.AT_RECURSIVE}, allow},
		{"a namespace of a copy", unix.SYS_OPEN_TREE, native, []uint64{0, 0, 2}, refuseWith(unix.EINVAL)},
		{"a namespace of a new filesystem", unix.SYS_FSMOUNT, native, []uint64{0, 2}, refuseWith(unix.EINVAL)},
		{"a copy of mounts with attributes", openTreeAttr, native, []uint64{0, 0, unix.OPEN_TREE_CLONE}, refuseWith(unix.ENOSYS)},
		{"a process by flags that are not seen", unix.SYS_CLONE3, native, nil, refuseWith(unix.ENOSYS)},
		{"io_uring_enter", unix.SYS_IO_URING_ENTER, native, nil, refuseWith(unix.ENOSYS)},
		{"read", unix.SYS_READ, native, nil, allow},
		{"read of 32 bits", 3, unix.AUDIT_ARCH_I386, nil, refuseWith(unix.ENOSYS)},
		{"socket of another architecture", unix.SYS_SOCKET, unix.AUDIT_ARCH_ARM, []uint64{unix.AF_INET}, refuseWith(unix.ENOSYS)},
	}
	if foreignNumbers != 0 {
		tests = append(tests, struct {
			name                 string
			number, architecture uint32
			argument             []uint64
			want                 uint32
		}{"socket of x32", foreignNumbers + unix.SYS_SOCKET, native, []uint64{unix.AF_VSOCK}, refuseWith(unix.ENOSYS)})
	}
	for _, test := range tests {
		if got := runFilter(t, true, test.number, test.architecture, test.argument...); got != test.want {
			t.Errorf("%s: %#x, want %#x", test.name, got, test.want)
		}
	}
}
