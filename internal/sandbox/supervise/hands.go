package supervise

import (
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hands is a thread that looks a path up as its caller would: below the caller's
// root, from its folder, with its rights.
type hands struct {
	root        int // our own
	descriptors int // our /proc/self/fd, where a descriptor has a name; the folder that this thread stands in
	uid, gid    uintptr
	fail        func(error)
}

// newHands is called on the thread, which is to run nothing else.
func newHands(proc int, oneUser bool, fail func(error)) (h *hands, err error) {
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // a root and a folder of this thread's own
		return nil, fmt.Errorf("supervise: a thread of its own: %w", err)
	}
	h = &hands{root: -1, descriptors: -1, uid: uintptr(os.Geteuid()), gid: uintptr(os.Getegid()), fail: fail}
	defer func() {
		if err != nil {
			unix.Close(h.root)
			unix.Close(h.descriptors)
			h = nil
		}
	}()
	if h.root, err = unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return h, fmt.Errorf("supervise: open the root: %w", err)
	}
	if h.descriptors, err = unix.Openat(proc, "self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return h, fmt.Errorf("supervise: open our descriptors: %w", err)
	}
	if err := unix.Fchdir(h.descriptors); err != nil {
		return h, fmt.Errorf("supervise: enter our descriptors: %w", err)
	}
	if oneUser { // permissions of files stay those of the user
		if errno := setEffective(func(permitted uint64) uint64 { return permitted &^ fileRights }); errno != 0 {
			return h, fmt.Errorf("supervise: give up rights over files: %w", errno)
		}
	}
	return h, nil
}

// identity is what the permission of a file and the peer of a connection go by.
type identity struct {
	uid, gid uint32
	groups   []uint32
	rights   uint64 // of fileRights
}

// fileRights are the capabilities that count where a socket file is looked up.
const fileRights = 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH | 1<<unix.CAP_FOWNER

func setEffective(of func(permitted uint64) uint64) unix.Errno {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if _, errno := quick(unix.SYS_CAPGET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0); errno != 0 {
		return errno
	}
	effective := of(uint64(data[0].Permitted) | uint64(data[1].Permitted)<<32)
	data[0].Effective, data[1].Effective = uint32(effective), uint32(effective>>32)
	_, errno := quick(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	return errno
}

const unchanged = ^uintptr(0) // of setresuid and setresgid

// become makes this thread alone another user, as far as files and peers see it.
// The saved user stays ours, so that it can come back.
func (h *hands) become(who *identity) unix.Errno {
	groups := append(who.groups, 0) // never empty, for its address
	if _, errno := quick(unix.SYS_SETGROUPS, uintptr(len(groups)-1), uintptr(unsafe.Pointer(&groups[0])), 0); errno != 0 {
		return errno
	}
	if _, errno := quick(unix.SYS_SETRESGID, unchanged, uintptr(who.gid), unchanged); errno != 0 {
		return errno
	}
	if _, errno := quick(unix.SYS_SETRESUID, unchanged, uintptr(who.uid), unchanged); errno != 0 {
		return errno
	}
	return setEffective(func(permitted uint64) uint64 { return permitted & fileRights & who.rights })
}

// comeBack must not fail: a supervisor with the rights of another is of no use.
func (h *hands) comeBack() {
	_, userErrno := quick(unix.SYS_SETRESUID, unchanged, h.uid, unchanged)
	rightsErrno := setEffective(func(permitted uint64) uint64 { return permitted })
	_, groupErrno := quick(unix.SYS_SETRESGID, unchanged, h.gid, unchanged)
	if userErrno != 0 || rightsErrno != 0 || groupErrno != 0 {
		h.fail(fmt.Errorf("supervise: come back from another user: %v, %v, %v", userErrno, rightsErrno, groupErrno))
	}
}

// as does something as somebody; nil is who this thread is.
func (h *hands) as(who *identity, do func() unix.Errno) unix.Errno {
	if who == nil {
		return do()
	}
	errno := h.become(who)
	if errno == 0 {
		errno = do()
	} else {
		errno = unix.EACCES
	}
	h.comeBack()
	return errno
}

// open opens the file that a path leads to, without connecting to it.
func (h *hands) open(root, folder int, path string, who *identity) (file int, errno unix.Errno) {
	defer h.standAgain()
	if unix.Fchdir(root) != nil || unix.Chroot(".") != nil {
		return -1, unix.EACCES
	}
	if err := unix.Fchdir(folder); err != nil { // a descriptor may be of anything
		return -1, errnoOf(err)
	}
	file = -1
	errno = h.as(who, func() unix.Errno {
		// The links of /proc would lead through our own descriptors.
		how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
		var err error
		if file, err = unix.Openat2(unix.AT_FDCWD, path, how); err != nil {
			return errnoOf(err)
		}
		return 0
	})
	return file, errno
}

// standAgain gives up the caller's root and folder, so that nothing of it stays busy.
func (h *hands) standAgain() {
	err := unix.Fchdir(h.root)
	if err == nil {
		err = unix.Chroot(".")
	}
	if err == nil {
		err = unix.Fchdir(h.descriptors)
	}
	if err != nil {
		h.fail(fmt.Errorf("supervise: come back to our own root: %w", err))
	}
}

func errnoOf(err error) unix.Errno {
	if errno, ok := err.(unix.Errno); ok {
		return errno
	}
	return unix.EACCES
}

// fileAddress names an open file: one component, in the folder that hands stand in.
func fileAddress(file int) []byte {
	address := make([]byte, 2, 16)
	address[0] = unix.AF_UNIX // both architectures are little-endian
	return append(strconv.AppendInt(address, int64(file), 10), 0)
}

// listens says whether a socket is bound to the file, without its owner noticing: a
// connect of another type ends before it with EPROTOTYPE.
func (h *hands) listens(file int) bool {
	probe, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return true
	}
	defer unix.Close(probe)
	return rawConnect(probe, fileAddress(file)) != unix.ECONNREFUSED
}

// rawConnect is connect(2) on a socket that does not block.
func rawConnect(socket int, address []byte) unix.Errno {
	var pointer unsafe.Pointer
	if len(address) > 0 {
		pointer = unsafe.Pointer(&address[0])
	}
	_, errno := quick(unix.SYS_CONNECT, uintptr(socket), uintptr(pointer), uintptr(len(address)))
	return errno
}
