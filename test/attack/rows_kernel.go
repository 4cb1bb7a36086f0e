package attack

import (
	"os"

	"golang.org/x/sys/unix"
)

// written opens files for writing, and writes nothing.
func written(refused []error, paths ...string) func(*Inside) error {
	var all []func(*Inside) error
	for _, path := range paths {
		all = append(all, func(*Inside) error { return openFile(path, os.O_WRONLY) })
	}
	return each(refused, all...)
}

// chmodded gives files the rights that they have, which is refused as others are.
func chmodded(refused []error, paths ...string) func(*Inside) error {
	var all []func(*Inside) error
	for _, path := range paths {
		all = append(all, func(*Inside) error {
			var now unix.Stat_t
			if err := unix.Stat(path, &now); err != nil {
				return err
			}
			return unix.Chmod(path, now.Mode&0o7777)
		})
	}
	return each(refused, all...)
}

// machineHas skips an attempt on a file that is not there outside either.
func machineHas(path string) func(*outside) error {
	return func(*outside) error {
		if _, err := os.Stat(path); err != nil {
			return skipped("this machine has none")
		}
		return nil
	}
}

func kernelRows() []Row {
	refused := []error{unix.EROFS, unix.EACCES, unix.EPERM, unix.ENOENT}
	const right = "they are read-only"
	return []Row{
		{ID: "kernel-settings", Tried: "Write settings of the kernel: what is executed for core dumps, forwarding, modules", Right: right, Bare: Root,
			Inside: written(refused, "/proc/sys/kernel/core_pattern", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches"), Refused: refused},
		{ID: "kernel-sysrq", Tried: "Reboot by key (/proc/sysrq-trigger)", Right: right, Bare: Root,
			Inside: written(refused, "/proc/sysrq-trigger"), Refused: refused, Before: machineHas("/proc/sysrq-trigger")},
		{ID: "kernel-devices", Tried: "Write what the kernel executes for devices, and files below /sys", Right: right, Bare: Root,
			Inside: written(refused, "/sys/kernel/uevent_helper", "/sys/power/state", "/sys/module/kernel/parameters/panic", "/sys/kernel/mm/transparent_hugepage/enabled"), Refused: refused},
		{ID: "kernel-interrupts", Tried: "Write where interrupts go", Right: right, Bare: Root,
			Inside: written(refused, "/proc/irq/default_smp_affinity"), Refused: refused, Before: machineHas("/proc/irq/default_smp_affinity")},
		{ID: "kernel-rights", Tried: "Change the rights of files of the kernel, and of the machine's device files", Right: right, Bare: Root,
			Inside: chmodded(refused, "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel", "/proc/sysrq-trigger", "/dev/null", "/dev/urandom"), Refused: refused},
		{ID: "kernel-nested", Tried: "Make them writable by mounts of one's own, in a user namespace", Right: "they stay read-only",
			Flags: unix.CLONE_NEWNS, Nested: func(in *Inside) error {
				for _, folder := range []string{"/proc/sys", "/sys"} {
					unix.Unmount(folder, unix.MNT_DETACH)
					unix.Mount("", folder, "", unix.MS_REMOUNT|unix.MS_BIND, "")
				}
				unix.Mount("proc", "/mnt", "proc", 0, "")
				return written(refused, "/proc/sys/kernel/core_pattern", "/mnt/sys/kernel/core_pattern", "/mnt/sysrq-trigger", "/sys/kernel/uevent_helper")(in)
			}, Refused: refused},
		{ID: "kernel-memory", Tried: "Open the memory of the kernel", Right: "it is not permitted",
			Inside:  written([]error{unix.EACCES, unix.EPERM, unix.ENOENT, unix.ENXIO}, "/dev/mem", "/dev/kmem", "/proc/kcore"),
			Refused: []error{unix.EACCES, unix.EPERM, unix.ENOENT, unix.ENXIO}},
	}
}
