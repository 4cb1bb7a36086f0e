package attack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// landlockScopes says whether the kernel keeps signals inside (Linux 6.12).
func landlockScopes() bool {
	const version = 1 // LANDLOCK_CREATE_RULESET_VERSION
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, version)
	return errno == 0 && abi >= 6
}

func trace(pid int) error {
	runtime.LockOSThread()
	if err := unix.PtraceAttach(pid); err != nil {
		return err
	}
	unix.Wait4(pid, nil, unix.WALL, nil)
	return unix.PtraceDetach(pid)
}

// foreignMemory reads, or writes what it read, of another process.
func foreignMemory(pid int, write bool) error {
	local := []byte{0}
	remote := []unix.RemoteIovec{{Base: 0x400000, Len: 1}} // where a static binary begins
	here := []unix.Iovec{{Base: &local[0], Len: 1}}
	move := unix.ProcessVMReadv
	if write {
		move = unix.ProcessVMWritev
	}
	_, err := move(pid, here, remote, 0)
	return err
}

// takeDescriptor takes a descriptor of another process.
func takeDescriptor(pid, number int) error {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, number, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func openFile(path string, flags int) error {
	file, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return err
	}
	return file.Close()
}

// victimCommand is what /proc has as the command of the process outside.
const victimCommand = "/proc/self/exe\x00victim\x00"

// toVictim makes an attempt on the process outside.
func toVictim(do func(pid int) error) func(*Inside) error {
	return func(in *Inside) error {
		text, err := os.ReadFile(filepath.Join(in.Folder, "victim"))
		if err != nil {
			return err
		}
		pid, err := strconv.Atoi(string(text))
		if err != nil {
			return err
		}
		command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && string(command) != victimCommand && !in.Bare {
			return skipped("the sandbox has a process of this number itself")
		}
		return do(pid)
	}
}

const ioprioGroup, ioprioProcess = 2, 1

func processRows() []Row {
	gone := []error{unix.ESRCH, unix.ENOENT}
	return []Row{
		{ID: "process-seen", Tried: "See the processes of the machine", Right: "only those of the sandbox are there",
			Bare: everybody, Inside: func(in *Inside) error {
				entries, err := os.ReadDir("/proc")
				if err != nil {
					return err
				}
				for _, entry := range entries {
					if command, err := os.ReadFile("/proc/" + entry.Name() + "/cmdline"); err == nil && string(command) == victimCommand {
						return nil
					}
				}
				return held("the process outside is not among them")
			}},
		{ID: "process-signal", Tried: "End a process of the same user outside, by its number", Right: "there is no such process",
			Bare: everybody, Inside: toVictim(func(pid int) error { return unix.Kill(pid, unix.SIGKILL) }), Refused: gone},
		{ID: "process-group", Tried: "Send a signal to the whole process group, which reaches beyond the sandbox", Right: "it is delivered inside only",
			Bare: everybody, Inside: func(in *Inside) error {
				if !in.Bare && !landlockScopes() {
					return skipped("the kernel has no Landlock scopes (Linux 6.12): sluice says so at the start")
				}
				if err := unix.Kill(0, unix.SIGHUP); err != nil {
					return err
				}
				return held("it was sent, and nobody outside got it")
			}, Refused: permission, After: victimUnharmed, Ends: true},
		{ID: "process-trace", Tried: "Trace a process of the same user outside", Right: "there is no such process",
			Bare: everybody, Inside: toVictim(trace), Refused: gone},
		{ID: "process-memory", Tried: "Read and write the memory of a process of the same user outside", Right: "there is no such process",
			Bare: everybody, Inside: toVictim(func(pid int) error {
				if err := foreignMemory(pid, false); err == nil {
					return nil
				}
				return foreignMemory(pid, true)
			}), Refused: gone},
		{ID: "process-descriptor", Tried: "Take a descriptor of a process of the same user outside", Right: "there is no such process",
			Bare: everybody, Inside: toVictim(func(pid int) error { return takeDescriptor(pid, 0) }), Refused: gone},
		{ID: "process-priority", Tried: "Change the priority, the scheduling and the processors of a process outside", Right: "there is no such process",
			Bare: everybody, Inside: toVictim(func(pid int) error {
				if err := unix.Setpriority(unix.PRIO_PROCESS, pid, 5); err == nil {
					return nil
				}
				var all unix.CPUSet
				all.Set(0)
				if err := unix.SchedSetaffinity(pid, &all); err == nil {
					return nil
				}
				return call(unix.SYS_IOPRIO_SET, ioprioProcess, uintptr(pid), 3<<13)
			}), Refused: gone},
		{ID: "group-priority", Tried: "Change the priority and the I/O of the whole process group, also behind a bit that the kernel does not look at", Right: "it is not permitted",
			Bare: everybody, Inside: each(permission, func(*Inside) error { return unix.Setpriority(unix.PRIO_PGRP, 0, 7) },
				func(*Inside) error { return call(unix.SYS_SETPRIORITY, unix.PRIO_PGRP|high, high, 7) },
				func(*Inside) error { return call(unix.SYS_IOPRIO_SET, ioprioGroup, 0, 3<<13) }), Refused: permission},
		{ID: "group-cores", Tried: "Put the whole process group onto cores of its own", Right: "it is refused",
			Inside: func(*Inside) error {
				return call(unix.SYS_PRCTL, unix.PR_SCHED_CORE, unix.PR_SCHED_CORE_CREATE, 0, unix.PR_SCHED_CORE_SCOPE_PROCESS_GROUP)
			}, Refused: []error{unix.EINVAL, unix.EPERM, unix.ENODEV}},
		{ID: "user-priority", Tried: "Change the priority of all processes of the user", Right: "those outside keep theirs",
			Inside: func(*Inside) error {
				err := unix.Setpriority(unix.PRIO_USER, os.Getuid(), 8)
				return held(fmt.Sprint("of those inside: ", err))
			}, After: victimUnharmed},
		{ID: "init-trace", Tried: "Trace the init of the sandbox, and read and write its memory", Right: "it is not permitted",
			Inside: each(permission, func(*Inside) error { return trace(1) }, func(*Inside) error { return foreignMemory(1, false) },
				func(*Inside) error { return foreignMemory(1, true) }, func(*Inside) error { return openFile("/proc/1/mem", os.O_RDWR) }), Refused: permission},
		{ID: "init-descriptor", Tried: "Take the descriptors of the init of the sandbox", Right: "it is not permitted",
			Inside: each(permission, func(*Inside) error { return takeDescriptor(1, 3) }, func(*Inside) error {
				entries, err := os.ReadDir("/proc/1/fd")
				if err == nil && len(entries) > 0 { // uid 0 sees their numbers
					err = openFile("/proc/1/fd/"+entries[0].Name(), os.O_RDONLY)
				}
				return err
			}), Refused: permission},
		{ID: "init-root", Tried: "Go through the root folder of the init of the sandbox", Right: "it is not permitted",
			Inside: func(*Inside) error { _, err := os.ReadDir("/proc/1/root/"); return err }, Refused: permission},
		{ID: "init-end", Tried: "End or stop the init of the sandbox, which decides over unix sockets", Right: "the signals are ignored",
			Inside: func(*Inside) error {
				err := errors.Join(unix.Kill(1, unix.SIGKILL), unix.Kill(1, unix.SIGSTOP), unix.Kill(1, unix.SIGSEGV))
				if err := unix.Kill(1, 0); err != nil && !errors.Is(err, unix.EPERM) {
					return nil
				}
				return held(fmt.Sprint("it lives: ", err))
			}},
		{ID: "init-nested", Tried: "Trace the init of the sandbox with every capability of a user namespace", Right: "it is not permitted",
			Nested: each(permission, func(*Inside) error { return trace(1) }, func(*Inside) error { return takeDescriptor(1, 3) }), Refused: permission},
	}
}

// victimUnharmed returns an error where the process outside has got another priority.
func victimUnharmed(o *outside) error {
	priority, err := unix.Getpriority(unix.PRIO_PROCESS, o.victim.Process.Pid)
	if err != nil {
		return err
	}
	began, err := unix.Getpriority(unix.PRIO_PROCESS, 0) // ours, with which it began
	if err == nil && priority != began {
		err = fmt.Errorf("the process outside had priority %d and has %d", 20-began, 20-priority) // 20 is the kernel's number for 0
	}
	return err
}
