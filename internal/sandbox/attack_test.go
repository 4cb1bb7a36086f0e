package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
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

func socket(domain, kind, protocol uintptr) func() error {
	return func() error { return call(unix.SYS_SOCKET, domain, kind, protocol) }
}

func onSocket(do func(fd int) error) func() error {
	return func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			return fmt.Errorf("the socket itself: %v", err)
		}
		defer unix.Close(fd)
		return do(fd)
	}
}

const high = 1 << 32 // a bit that the kernel does not look at

func attempts() []attempt {
	family := []error{unix.EAFNOSUPPORT}
	permission := []error{unix.EPERM, unix.EACCES}
	missing := []error{unix.ENOSYS}
	return []attempt{
		{"raw socket", socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP), permission},
		{"raw v6 socket", socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6), permission},
		{"ping socket", socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP), permission},
		{"packet socket", socket(unix.AF_PACKET, unix.SOCK_RAW, 0), family},
		{"vsock", socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0), family},
		{"vsock behind a high bit", socket(unix.AF_VSOCK|high, unix.SOCK_STREAM, 0), family},
		{"vsock pair", func() error {
			var pair [2]int32
			return call(unix.SYS_SOCKETPAIR, unix.AF_TIPC, unix.SOCK_STREAM, 0, uintptr(unsafe.Pointer(&pair)))
		}, family},
		{"AF_XDP", socket(unix.AF_XDP, unix.SOCK_RAW, 0), family},
		{"AF_ALG", socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0), family},
		{"AF_BLUETOOTH", socket(unix.AF_BLUETOOTH, unix.SOCK_RAW, 0), family},
		{"io_uring", func() error {
			var parameters [128]byte
			return call(unix.SYS_IO_URING_SETUP, 8, uintptr(unsafe.Pointer(&parameters)))
		}, missing},
		{"the keyring of the session", func() error {
			const sessionKeyring = ^uintptr(2) // KEY_SPEC_SESSION_KEYRING, -3
			return call(unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, sessionKeyring)
		}, missing},
		{"a key of the user", func() error { return call(unix.SYS_REQUEST_KEY) }, missing},
		{"a new key", func() error { return call(unix.SYS_ADD_KEY) }, missing},
		{"bpf", func() error { return call(unix.SYS_BPF, 99) }, missing},
		{"perf events", func() error { return call(unix.SYS_PERF_EVENT_OPEN) }, missing},
		{"userfaultfd", func() error { return call(unix.SYS_USERFAULTFD, 1<<20) }, missing},
		{"kexec", func() error { return call(unix.SYS_KEXEC_LOAD) }, missing},
		{"a file by its number", func() error { return call(unix.SYS_OPEN_BY_HANDLE_AT) }, missing},
		{"type into the terminal", func() error {
			c := byte('x')
			return call(unix.SYS_IOCTL, 0, unix.TIOCSTI, uintptr(unsafe.Pointer(&c)))
		}, []error{unix.EPERM}},
		{"type into the terminal behind a high bit", func() error {
			c := byte('x')
			return call(unix.SYS_IOCTL, 0, unix.TIOCSTI|high, uintptr(unsafe.Pointer(&c)))
		}, []error{unix.EPERM}},
		{"paste into the terminal", func() error {
			c := byte(3)
			return call(unix.SYS_IOCTL, 0, unix.TIOCLINUX, uintptr(unsafe.Pointer(&c)))
		}, []error{unix.EPERM}},
		{"SO_MARK", onSocket(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, 1) }), permission},
		{"IP_TRANSPARENT", onSocket(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1) }), permission},
		{"lo down by ioctl", onSocket(func(fd int) error {
			request, _ := unix.NewIfreq("lo")
			return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
		}), permission},
		{"lo down by netlink", func() error {
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return fmt.Errorf("find lo: %v", err)
			}
			return netlink.LinkSetDown(lo)
		}, permission},
		{"a new link", func() error {
			return netlink.LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "d0"}})
		}, permission},
		{"flush the packet rules", func() error {
			conn, err := nftables.New()
			if err != nil {
				return err
			}
			conn.FlushRuleset()
			return conn.Flush()
		}, permission},
		{"mount", func() error { return unix.Mount("tmpfs", "/tmp", "tmpfs", 0, "") }, permission},
		{"unmount /run", func() error { return unix.Unmount("/run", unix.MNT_DETACH) }, permission},
		{"enter init's network", enter("net"), permission},
		{"enter init's mounts", enter("mnt"), permission},
		{"trace init", func() error {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			return unix.PtraceAttach(1)
		}, permission},
		{"init's memory", func() error { _, err := os.Open("/proc/1/mem"); return err }, permission},
		{"init's descriptors", func() error {
			entries, err := os.ReadDir("/proc/1/fd")
			if err != nil || len(entries) == 0 { // uid 0 sees their numbers
				return err
			}
			_, err = os.Open("/proc/1/fd/" + entries[0].Name())
			return err
		}, permission},
		{"init's root", func() error { _, err := os.ReadDir("/proc/1/root/"); return err }, permission},
		{"write init's memory", func() error {
			local, remote := []byte{0}, []unix.RemoteIovec{{Base: 0x400000, Len: 1}}
			_, err := unix.ProcessVMWritev(1, []unix.Iovec{{Base: &local[0], Len: 1}}, remote, 0)
			return err
		}, permission},
		{"read init's memory", func() error {
			local, remote := []byte{0}, []unix.RemoteIovec{{Base: 0x400000, Len: 1}}
			_, err := unix.ProcessVMReadv(1, []unix.Iovec{{Base: &local[0], Len: 1}}, remote, 0)
			return err
		}, permission},
		{"a mount that nobody sees", func() error { return call(unix.SYS_FSMOUNT, ^uintptr(0), 0, 0) }, permission},
		{"a copy of the mounts", func() error {
			_, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE)
			return err
		}, permission},
		{"another root", func() error { return unix.Chroot("/tmp") }, permission},
		{"take init's socket", func() error {
			pidfd, err := unix.PidfdOpen(1, 0)
			if err != nil {
				return fmt.Errorf("pidfd: %v", err)
			}
			_, err = unix.PidfdGetfd(pidfd, controlFD, 0)
			return err
		}, permission},
		{"see the host's processes", func() error {
			if pids := processes(); len(pids) > 2 {
				return fmt.Errorf("there are %v", pids)
			}
			return unix.Kill(os.Getppid()+100000, 0)
		}, []error{unix.ESRCH}},
		{"the host's abstract socket", func() error {
			_, err := net.Dial("unix", os.Getenv("ABSTRACT"))
			return err
		}, []error{unix.ECONNREFUSED}},
		{"the host's socket in a masked folder", func() error {
			_, err := net.Dial("unix", os.Getenv("MASKED"))
			return err
		}, []error{unix.ENOENT}},
		{"the host's socket in a folder that all share", func() error {
			_, err := net.Dial("unix", os.Getenv("SHARED"))
			return err
		}, []error{unix.ECONNREFUSED}},
		{"uncover the host's socket", func() error { return unix.Unmount(os.Getenv("SHARED"), unix.MNT_DETACH) }, permission},
		{"mounts of our own", func() error { return call(unix.SYS_UNSHARE, unix.CLONE_NEWNS) }, permission},
		{"what decides over core dumps", func() error {
			return os.WriteFile("/proc/sys/kernel/core_pattern", []byte("|/bin/false"), 0)
		}, []error{unix.EROFS, unix.EACCES, unix.EPERM}},
		{"ports and forwarding", func() error {
			return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
		}, []error{unix.EROFS, unix.EACCES, unix.EPERM}},
		{"what the kernel executes for devices", func() error {
			return os.WriteFile("/sys/kernel/uevent_helper", []byte("/bin/false"), 0)
		}, []error{unix.EROFS, unix.EACCES, unix.EPERM, unix.ENOENT}},
		{"reboot by key", func() error {
			_, err := os.OpenFile("/proc/sysrq-trigger", os.O_WRONLY, 0)
			return err
		}, []error{unix.EROFS, unix.EACCES, unix.EPERM, unix.ENOENT}},
	}
}

func enter(kind string) func() error {
	return func() error {
		fd, err := unix.Open("/proc/1/ns/"+kind, unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		return unix.Setns(fd, 0)
	}
}

func processes() (pids []string) {
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		if name := entry.Name(); name[0] >= '0' && name[0] <= '9' {
			pids = append(pids, name)
		}
	}
	return pids
}

func attackRole([]string) int {
	for _, a := range attempts() {
		err := a.do()
		if !slices.ContainsFunc(a.refused, func(want error) bool { return errors.Is(err, want) }) {
			fmt.Printf("%s: %v, want one of %v\n", a.name, err, a.refused)
		}
	}
	return 0
}

func TestACommandCannotGetOut(t *testing.T) {
	masked := t.TempDir()
	path := filepath.Join(masked, "s")
	abstract := fmt.Sprintf("@sluice-test-%d", os.Getpid())
	shared := filepath.Join(t.TempDir(), "agent")
	for _, address := range []string{path, abstract, shared} {
		listener, err := net.Listen("unix", address)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
	}
	p := newPlace(t, Config{
		Command: []string{"attack"},
		Env:     append(os.Environ(), "MASKED="+path, "ABSTRACT="+abstract, "SHARED="+shared),
		Mask:    []string{masked, "/does/not/exist"},
	})
	output, exit := p.run(t)
	if exit != 0 || output != "" {
		t.Errorf("exit %d\n%s", exit, output)
	}
}

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
		ls %[1]s; true`, masked)
	p := newPlace(t, Config{Command: []string{"unshare", "-Urm", "sh", "-c", script + " 2>/dev/null"}, Mask: []string{masked}})
	output, exit := p.run(t)
	if os.Geteuid() == 0 && strings.Contains(output, "uid_map: Operation not permitted") {
		return // uid 0 without CAP_SETFCAP may not be root of a namespace
	}
	if exit != 0 || strings.Contains(output, "secret") || strings.Contains(output, "unmounted") || strings.Contains(output, "down") {
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
	script := fmt.Sprintf(`for file in %s %s; do cat $file; echo forged >$file; umount $file; mv $file $file.old; rm -f %[1]s; done 2>/dev/null; true`, file, link)
	for _, command := range [][]string{{"sh", "-c", script}, {"unshare", "-Urm", "sh", "-c", script}} {
		p := newPlace(t, Config{Command: command, Mask: []string{link}})
		if output, _ := p.run(t); strings.Contains(output, "secret") {
			t.Errorf("%s read it: %s", command[0], output)
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
	program := filter(supervised)
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
		{"an IPv6 socket", unix.SYS_SOCKET, native, []uint64{unix.AF_INET6}, allow},
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
