package sandbox

import "golang.org/x/sys/unix"

// What a call that makes mount namespaces, or mounts that are in none, may ask for: the
// flags of Linux 6.18.
const (
	unshareFlags = unix.CLONE_THREAD | unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_SIGHAND | unix.CLONE_VM |
		unix.CLONE_FILES | unix.CLONE_SYSVSEM | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET |
		unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWCGROUP | unix.CLONE_NEWTIME
	openTreeFlags = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH | unix.AT_NO_AUTOMOUNT |
		unix.AT_RECURSIVE | unix.AT_SYMLINK_NOFOLLOW
	fsmountFlags = unix.FSMOUNT_CLOEXEC
)

// pivotRootLowers says what the command reaches by that.
const pivotRootLowers = "the command can take another root folder (--allow-pivot-root), and then rename folders around hidden ones: Sluice's data folder and hidden files are in reach"

// refuseOtherMounts keeps every process inside in a mount namespace that has all our
// mounts: a folder that is a mount point is kept from being renamed by the mounts of
// the caller's namespace alone. Who takes another root, and then detaches the old one,
// has them no longer, and would rename through a descriptor that it kept; with pivotRoot
// that is left to the command. Newer kernels make empty namespaces at once; those flags are
// refused as older kernels do.
func refuseOtherMounts(p *program, pivotRoot bool) {
	if !pivotRoot {
		p.when(unix.SYS_PIVOT_ROOT, refuseWith(unix.EPERM))
	}
	for number, known := range map[uint32][2]uint32{ // the argument with the flags, and those
		unix.SYS_UNSHARE:   {0, unshareFlags},
		unix.SYS_OPEN_TREE: {2, openTreeFlags},
		unix.SYS_FSMOUNT:   {1, fsmountFlags},
	} {
		p.whenThen(number, func(p *program) {
			p.load(lowHalf(known[0]))
			p.whenBit(^known[1], refuseWith(unix.EINVAL))
			p.end(unix.SECCOMP_RET_ALLOW)
		})
	}
}
