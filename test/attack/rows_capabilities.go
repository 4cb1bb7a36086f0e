package attack

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

func capabilityRows() []Row {
	calls := func(number uintptr, arguments ...uintptr) func(*Inside) error {
		return func(*Inside) error { return call(number, arguments...) }
	}
	text := func(s string) uintptr { return uintptr(unsafe.Pointer(&append([]byte(s), 0)[0])) }
	return []Row{
		{ID: "mount", Tried: "Mount something, or unmount what hides /run", Right: "it is not permitted", Bare: Root,
			Inside: each(permission, func(*Inside) error { return unix.Mount("tmpfs", "/tmp", "tmpfs", 0, "") },
				func(*Inside) error { return unix.Unmount("/run", unix.MNT_DETACH) }), Refused: permission},
		{ID: "mount-unseen", Tried: "Make a mount, or a copy of all, that no name leads to (fsmount, open_tree)", Right: "it is not permitted", Bare: Root,
			Inside: each(permission, func(*Inside) error {
				fd, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE)
				if err == nil {
					unix.Close(fd)
				}
				return err
			}, calls(unix.SYS_FSMOUNT, ^uintptr(0), 0, 0)), Refused: permission},
		{ID: "mount-namespace", Tried: "Have a mount namespace, and no user namespace", Right: "it is not permitted", Bare: Root,
			Inside: calls(unix.SYS_UNSHARE, unix.CLONE_NEWNS), Refused: permission},
		{ID: "mount-nested", Tried: "Uncover /run in a user namespace", Right: "what covers it stays",
			Flags: unix.CLONE_NEWNS, Nested: func(*Inside) error { return unix.Unmount("/run", unix.MNT_DETACH) }, Refused: []error{unix.EINVAL, unix.EPERM}},
		{ID: "chroot", Tried: "Take another root folder", Right: "it is not permitted", Bare: Root,
			Inside: func(*Inside) error { return unix.Chroot("/tmp") }, Refused: permission},
		{ID: "mknod", Tried: "Make a device", Right: "it is not permitted", Bare: Root,
			Inside: func(in *Inside) error {
				return unix.Mknod(filepath.Join(in.Own, "device"), unix.S_IFBLK|0o600, int(unix.Mkdev(8, 0)))
			}, Refused: permission},
		{ID: "setuid-call", Tried: "Become uid 0", Right: "it is not permitted", As: noRoot,
			Inside: calls(unix.SYS_SETUID, 0), Refused: append([]error{unix.EINVAL}, permission...)}, // a user namespace of one user has no uid 0
		{ID: "setuid-program", Tried: "Start a program of root's with the set-uid bit", Right: "it runs as the user", As: notUID0,
			Inside: func(in *Inside) error {
				output, err := exec.Command(filepath.Join(in.Folder, "setuid"), "uid").Output()
				if errors.Is(err, os.ErrNotExist) {
					return skipped("only root can make one")
				}
				if err != nil {
					return err
				}
				if uid := strings.TrimSpace(string(output)); uid != "0" {
					return held("its uid is " + uid)
				}
				return nil
			}},
		{ID: "capabilities-back", Tried: "Take capabilities back", Right: "it is not permitted",
			Inside: func(*Inside) error {
				header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
				all := [2]unix.CapUserData{{Effective: ^uint32(0), Permitted: ^uint32(0)}, {Effective: 0x1ff, Permitted: 0x1ff}}
				return unix.Capset(&header, &all[0])
			}, Refused: permission},
		{ID: "bpf", Tried: "Load BPF programs, or watch the kernel by performance events", Right: "there are no such calls",
			Inside: each(missing, calls(unix.SYS_BPF, 99), calls(unix.SYS_PERF_EVENT_OPEN)), Refused: missing},
		{ID: "userfaultfd", Tried: "Hold the kernel at a page fault (userfaultfd)", Right: "there is no such call",
			Inside: calls(unix.SYS_USERFAULTFD, 1<<20), Refused: missing},
		{ID: "keys", Tried: "Read the keyring of the session, ask for keys and add one", Right: "there are no such calls",
			Inside: each(missing, calls(unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, ^uintptr(2)), calls(unix.SYS_REQUEST_KEY), calls(unix.SYS_ADD_KEY)), Refused: missing},
		{ID: "file-by-number", Tried: "Open a file by its number, past folders that are hidden", Right: "there is no such call",
			Inside: calls(unix.SYS_OPEN_BY_HANDLE_AT), Refused: missing},
		{ID: "kexec", Tried: "Load another kernel", Right: "there is no such call",
			Inside: calls(unix.SYS_KEXEC_LOAD), Refused: missing},
		{ID: "modules", Tried: "Load and unload kernel modules", Right: "it is not permitted",
			Inside:  each(append(missing, permission...), calls(unix.SYS_INIT_MODULE, 0, 0, text("")), calls(unix.SYS_FINIT_MODULE, ^uintptr(0), text(""), 0), calls(unix.SYS_DELETE_MODULE, text("none"), unix.O_NONBLOCK)),
			Refused: append(missing, permission...)},
		{ID: "reboot", Tried: "Reboot, set the host's name and the clock", Right: "it is not permitted", // none of them would change anything
			Inside: each(permission, calls(unix.SYS_REBOOT, 0, 0, 0), calls(unix.SYS_SETHOSTNAME, text("x"), ^uintptr(0)),
				func(*Inside) error {
					var now unix.Timespec
					if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
						return err
					}
					return unix.ClockSettime(unix.CLOCK_REALTIME, &now)
				}), Refused: permission},
		{ID: "swap", Tried: "Swap to a file, or account processes", Right: "it is not permitted",
			Inside: each(permission, calls(unix.SYS_SWAPON, text("/none"), 0), calls(unix.SYS_ACCT, text("/none"))), Refused: permission},
		{ID: "no-new-privileges", Works: true, Tried: "Have no new privileges for ever, as what is executed needs", Right: "the flag is set and cannot be cleared",
			Inside: func(*Inside) error {
				status, err := os.ReadFile("/proc/self/status")
				if err != nil {
					return err
				}
				if !strings.Contains(string(status), "NoNewPrivs:\t1\n") || unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) == nil {
					return errors.New("it is not")
				}
				return nil
			}},
	}
}

func nestedRows() []Row {
	again := func(flags []string, id string) func(*Inside) error {
		return func(in *Inside) error {
			arguments := append([]string{"run", "--quiet", "--resolver", addressResolver}, flags...)
			command := exec.Command(in.Sluice, append(arguments, "--", filepath.Join(in.Folder, "attack"), "row", id)...)
			o := outcomeOf(command, id)
			if o.Reached {
				return nil
			}
			return held(o.Text)
		}
	}
	return []Row{
		{ID: "nested-allow", Tried: "Start `sluice run` inside, with rules that allow everything", Right: "the rules of the outer sandbox hold",
			Inside: again([]string{"--allow", "denied.example", "--audit"}, "direct-tcp")},
		{ID: "nested-unix", Tried: "Start `sluice run --unix` inside, for a socket outside", Right: "the socket stays out of reach",
			Inside: func(in *Inside) error {
				return again([]string{"--unix", filepath.Join(in.Folder, "sockets/absolute")}, "unix-absolute")(in)
			}},
		{ID: "nested-data", Tried: "Start `sluice run` inside with other folders, and read the data folder", Right: "it stays empty",
			Inside: again(nil, "data-read")},
		{ID: "nested-process", Tried: "End a process outside from a sandbox inside", Right: "there is no such process",
			Inside: again(nil, "process-signal")},
	}
}
