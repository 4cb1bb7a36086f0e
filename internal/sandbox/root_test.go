package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("requires root")
	}
	needSandbox(t)
}

// scriptIn runs a script of the shell in a folder and returns what it said.
func scriptIn(t testing.TB, config Config, folder, script string) (output string, exit int) {
	t.Helper()
	config.Command, config.Dir = []string{"sh", "-c", script}, folder
	config.Env = append(os.Environ(), "HOME="+folder, "LC_ALL=C")
	return newPlace(t, config).run(t)
}

func TestRootWorksOnFilesOfAllUsers(t *testing.T) {
	needRoot(t)
	tests := []struct{ name, needs, script, want string }{
		{"chown", "chown", `touch f; chown 4242:4343 f && stat -c %u:%g f`, "4242:4343\n"},
		{"another user's folder", "install", `install -d -m 700 -o 4242 own && echo x >own/f && stat -c %u own/f && rm own/f && echo removed`, "0\nremoved\n"},
		{"mode and time of another user's file", "touch", `touch f; chown 4242 f; chmod 640 f && touch -d @7 f && stat -c '%a %Y' f`, "640 7\n"},
		{"tar with owners", "tar", `mkdir own; touch own/f; chown -R 4242:4343 own; chmod 4751 own/f; tar -cf a.tar own; mkdir x; tar -C x -xpf a.tar && stat -c '%n %u:%g %a' x/own x/own/f`,
			"x/own 4242:4343 755\nx/own/f 4242:4343 4751\n"},
		{"install for another user", "install", `touch f; install -o nobody -m 4750 f g && stat -c '%U %a' g`, "nobody 4750\n"},
		{"su", "su", `su -s /bin/sh nobody -c 'id -un; cat secret' 2>&1; echo $?`, "nobody\ncat: secret: Permission denied\n1\n"},
		{"a process of another user", "su", `su -s /bin/sh nobody -c 'mkfifo /tmp/fifo$$; echo $$; read x </tmp/fifo$$' 2>/dev/null | { read pid; kill $pid && echo ended; rm -f /tmp/fifo$pid; }`, "ended\n"},
		{"setpriv", "setpriv", `setpriv --reuid=4242 --regid=4343 --clear-groups id -u`, "4242\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			needProgram(t, test.needs)
			folder := newOutside(t).folder
			if err := errors.Join(os.Chmod(folder, 0o755), os.WriteFile(filepath.Join(folder, "secret"), nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			if output, exit := scriptIn(t, Config{}, folder, test.script); exit != 0 || output != test.want {
				t.Errorf("exit %d: %q, want %q", exit, output, test.want)
			}
		})
	}
	for name, config := range map[string]Config{
		"not wanted": {NoFileCapabilities: true}, "as another user": {RunAs: &Identity{UID: 4242, GID: 4242}}, "in a user namespace": {UserNamespace: true},
	} {
		folder := newOutside(t).folder
		if err := os.Chmod(folder, 0o777); err != nil {
			t.Fatal(err)
		}
		output, exit := scriptIn(t, config, folder, `grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | tr -s '[:space:]0' ' '; touch f; chown 4343 f 2>/dev/null || echo refused`)
		if exit != 0 || output != "CapInh: CapPrm: CapEff: CapBnd: CapAmb: refused\n" {
			t.Errorf("%s: exit %d: %q", name, exit, output)
		}
	}
}

func TestPostgreSQLTakesTwoUsersByTheirNames(t *testing.T) {
	needRoot(t)
	for _, program := range []string{"initdb", "pg_ctl", "psql", "su"} {
		needProgram(t, program)
	}
	if exec.Command("id", "postgres").Run() != nil {
		t.Skip("there is no user postgres")
	}
	binaries := folderOf(t, "initdb")
	if testing.Short() {
		t.Skip("initdb takes seconds")
	}
	folder := newOutside(t).folder
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	// Root makes the folders, the server and its clients are each somebody else.
	script := `
		export PATH=` + binaries + `:$PATH
		as() { who=$1; shift; su -s /bin/sh "$who" -c "PATH=$PATH; cd $PWD; $*"; }
		install -d -o postgres -m 700 data && install -d -o postgres -m 755 s
		as postgres initdb -D data --auth=peer --no-sync >/dev/null || exit 1
		as postgres "pg_ctl -D data -w -o '-k $PWD/s -c listen_addresses=' -l data/log start" >/dev/null || { cat data/log; exit 1; }
		as postgres "psql -h $PWD/s -Atc 'create role nobody login; select current_user'" | tail -1
		as nobody "psql -h $PWD/s -Atc 'select current_user' postgres"
		as nobody "psql -h $PWD/s -U postgres -Atc 'select 1' postgres" 2>&1 | grep -o 'Peer authentication failed'
		psql -h $PWD/s -U postgres -Atc 'select 1' postgres 2>&1 | grep -o 'Peer authentication failed'
		as postgres "pg_ctl -D data -m immediate stop" >/dev/null`
	want := "postgres\nnobody\nPeer authentication failed\nPeer authentication failed\n"
	if output, exit := scriptIn(t, Config{}, folder, script); exit != 0 || output != want {
		t.Errorf("exit %d: %s", exit, output)
	}
}

// rootAttempts are what the rights over files must not open, beside what nobody may.
func rootAttempts() []attempt {
	permission := []error{unix.EPERM, unix.EACCES}
	readOnly := []error{unix.EROFS, unix.EACCES, unix.EPERM, unix.ENOENT}
	folder := os.Getenv("FOLDER")
	in := func(name string) string { return filepath.Join(folder, name) }
	write := func(path string) func() error {
		return func() error {
			file, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err == nil {
				file.Close()
			}
			return err
		}
	}
	list := []attempt{
		{"a new disk", func() error { return unix.Mknod(in("new-disk"), unix.S_IFBLK|0o600, int(unix.Mkdev(254, 0))) }, permission},
		{"a new disk in its /dev", func() error { return unix.Mknod("/dev/new-disk", unix.S_IFBLK|0o600, int(unix.Mkdev(254, 0))) }, permission},
		{"a new memory device", func() error { return unix.Mknod(in("new-mem"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 1))) }, permission},
		{"a file with capabilities", func() error {
			// struct vfs_cap_data, version 2: all that fit, effective
			data := []byte{1, 0, 0, 2, 255, 255, 255, 255, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0}
			return unix.Setxattr(in("file"), "security.capability", data, 0)
		}, permission},
		{"the kernel's core pattern", write("/proc/sys/kernel/core_pattern"), readOnly},
		{"the kernel's helper for events", write("/sys/kernel/uevent_helper"), readOnly},
		{"sysrq", write("/proc/sysrq-trigger"), readOnly},
		{"routing of interrupts", write("/proc/irq/default_smp_affinity"), readOnly},
		{"memory types", write("/proc/mtrr"), readOnly},
		{"/sys writable again", func() error { return unix.Mount("", "/sys", "", unix.MS_REMOUNT|unix.MS_BIND, "") }, permission},
		{"devices again", func() error { return unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND, "") }, permission},
		{"devices again by their attribute", func() error {
			return unix.MountSetattr(-1, "/", 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_NODEV})
		}, permission},
		{"the /dev of the machine", func() error { return unix.Unmount("/dev", unix.MNT_DETACH) }, permission},
		{"a devtmpfs", func() error { return unix.Mount("devtmpfs", in("."), "devtmpfs", 0, "") }, permission},
		{"a root folder by a descriptor", func() error {
			fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY, 0)
			if err != nil {
				return fmt.Errorf("open it: %v", err)
			}
			defer unix.Close(fd)
			return errors.Join(unix.Fchdir(fd), unix.Chroot("."))
		}, permission},
		{"the root of init by a descriptor of its folder", func() error { _, err := os.Open("/proc/1/cwd/."); return err }, permission},
		{"more capabilities", func() error {
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			all := [2]unix.CapUserData{{Effective: ^uint32(0), Permitted: ^uint32(0)}, {Effective: 0x1ff, Permitted: 0x1ff}}
			return unix.Capset(&header, &all[0])
		}, permission},
		{"init's priority", func() error { return unix.Setpriority(unix.PRIO_PROCESS, 1, -5) }, permission},
		{"the machine's name", func() error { return unix.Sethostname([]byte("x")) }, permission},
		{"the machine's clock", func() error { return unix.Settimeofday(&unix.Timeval{Sec: 1 << 30}) }, permission},
		{"a module of the kernel", func() error { return call(unix.SYS_INIT_MODULE) }, append(permission, unix.ENOSYS)},
		{"the kernel's log", func() error { _, err := unix.Klogctl(unix.SYSLOG_ACTION_CLEAR, nil); return err }, permission},
		{"swap", func() error {
			path, _ := unix.BytePtrFromString(in("file"))
			return call(unix.SYS_SWAPON, uintptr(unsafe.Pointer(path)), 0)
		}, permission},
	}
	for _, name := range []string{"vda", "sda", "mem", "kmsg", "tty1", "vcs", "vcsa1", "input/event0", "loop-control", "kvm", "fuse", "net/tun"} {
		list = append(list, attempt{"the machine's /dev/" + name, func() error { _, err := os.Open("/dev/" + name); return err }, []error{unix.ENOENT}})
	}
	return list
}

// rootAttackRole tries all that nobody may, as uid 0, and as another user that kept its
// capabilities.
func rootAttackRole([]string) int {
	try := func(who string, list []attempt) {
		for _, a := range list {
			err := a.do()
			if !slices.ContainsFunc(a.refused, func(want error) bool { return errors.Is(err, want) }) {
				fmt.Printf("%s: %s: %v, want one of %v\n", who, a.name, err, a.refused)
			}
		}
	}
	try("root", rootAttempts())
	runtime.LockOSThread()
	unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0)
	if err := becomeWithRights(ordinaryUser); err != nil {
		fmt.Println("become another user:", err)
		return 1
	}
	try("another user", rootAttempts())
	return 0
}

// becomeWithRights makes the calling thread alone another user that has the rights over files.
func becomeWithRights(uid uintptr) error {
	if err := call(unix.SYS_SETRESUID, uid, uid, uid); err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	half := uint32(fileCapabilities)
	return unix.Capset(&header, &(&[2]unix.CapUserData{{Effective: half, Permitted: half}})[0])
}

func TestRootsRightsOverFilesOpenNothingElse(t *testing.T) {
	needRoot(t)
	masked, folder := t.TempDir(), newOutside(t)
	if err := os.WriteFile(folder.path("file"), make([]byte, 4096), 0o666); err != nil {
		t.Fatal(err)
	}
	abstract := fmt.Sprintf("@sluice-root-test-%d", os.Getpid())
	folder.listen(t, unix.SOCK_STREAM, filepath.Join(masked, "s"))
	folder.listen(t, unix.SOCK_STREAM, folder.path("agent"))
	folder.listen(t, unix.SOCK_STREAM, abstract)
	p := newPlace(t, Config{
		Command: []string{"root-attack"}, Mask: []string{masked},
		Env: append(os.Environ(), "FOLDER="+folder.folder, "MASKED="+filepath.Join(masked, "s"), "ABSTRACT="+abstract, "SHARED="+folder.path("agent")),
	})
	if output, exit := p.run(t); exit != 0 || output != "" {
		t.Errorf("exit %d\n%s", exit, output)
	}
	if n := folder.reached.Load(); n != 0 {
		t.Errorf("sockets outside were reached %d times", n)
	}
}

// In a user namespace that a user of its own choice makes, a command of root has all
// capabilities there, and takes no mount away.
func TestANestedNamespaceOfAnotherUserOpensNothingForRoot(t *testing.T) {
	needRoot(t)
	for _, program := range []string{"setpriv", "unshare"} {
		needProgram(t, program)
	}
	folder := newOutside(t).folder
	if err := errors.Join(os.Chmod(folder, 0o777), unix.Mknod(filepath.Join(folder, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))); err != nil {
		t.Skip(err)
	}
	inner := `
		umount -l /dev && echo /dev uncovered
		umount -l /sys && echo /sys uncovered
		mount -o remount,bind,dev / && echo devices are back
		mount -o remount,bind,rw /sys && echo /sys is writable
		mkdir -p $PWD/m && mount -t tmpfs none $PWD/m && mknod $PWD/m/d b 254 0 && echo a disk is made
		mount -t devtmpfs none $PWD/m && echo the devtmpfs is mounted
		mount -t tmpfs none $PWD/m && cp -a $PWD/null $PWD/m/null && true <$PWD/m/null && echo a copied device opens
		true <$PWD/null && echo a device opens
		mount --bind / $PWD/m && true <$PWD/m$PWD/null && echo a device opens by another name
		echo tried`
	script := `setpriv --reuid=1000 --regid=1000 --clear-groups unshare -Urm sh -c '` + inner + `' 2>/dev/null
		unshare -U --map-users 0,0,65536 --map-groups 0,0,65536 true 2>/dev/null && echo all users are mapped; true`
	if output, exit := scriptIn(t, Config{}, folder, script); exit != 0 || output != "tried\n" {
		t.Errorf("exit %d\n%s", exit, output)
	}
}

// becomeRole becomes the user that owns a socket outside, and goes there.
func becomeRole(args []string) int {
	var owner unix.Stat_t
	if err := unix.Stat(args[0], &owner); err != nil {
		fmt.Println(err)
		return 1
	}
	if err := errors.Join(syscall.Setgroups([]int{int(owner.Gid)}), syscall.Setresgid(int(owner.Gid), int(owner.Gid), int(owner.Gid)), syscall.Setresuid(int(owner.Uid), int(owner.Uid), int(owner.Uid))); err != nil {
		fmt.Println("become its user:", err)
		return 1
	}
	said, err := dial(unix.SOCK_STREAM, args[0])
	fmt.Printf("%d %q %v\n", os.Geteuid(), said, err)
	return 0
}

func TestRootReachesNoSocketOfAUserThatItBecomes(t *testing.T) {
	needRoot(t)
	o := newOutside(t)
	if err := os.Chmod(o.folder, 0o755); err != nil {
		t.Fatal(err)
	}
	o.listen(t, unix.SOCK_STREAM, o.path("theirs"))
	if err := errors.Join(os.Chown(o.path("theirs"), ordinaryUser, ordinaryUser), os.Chmod(o.path("theirs"), 0o700)); err != nil {
		t.Fatal(err)
	}
	output, exit, _ := inside(t, "become", o.path("theirs"))
	if want := fmt.Sprintf("%d \"\" connection refused\n", ordinaryUser); exit != 0 || output != want || o.reached.Load() != 0 {
		t.Errorf("exit %d: %s; reached %d times", exit, output, o.reached.Load())
	}
}

// With its rights over files root could rename a folder of another user that leads to a
// hidden one.
func TestRootRenamesNoFolderAroundAHiddenOne(t *testing.T) {
	needRoot(t)
	folder := newOutside(t).folder
	home := filepath.Join(folder, "home")
	hidden := filepath.Join(home, "share", "hidden")
	if err := errors.Join(os.MkdirAll(hidden, 0o755), os.WriteFile(filepath.Join(hidden, "secret"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{home, filepath.Join(home, "share")} {
		if err := os.Chown(path, ordinaryUser, ordinaryUser); err != nil {
			t.Fatal(err)
		}
	}
	output, exit := scriptIn(t, Config{Mask: []string{hidden}}, folder, `mv home/share home/other 2>/dev/null && echo renamed; mv home away 2>/dev/null && echo renamed; ls home/share/hidden; true`)
	if exit != 0 || output != "" {
		t.Errorf("exit %d: %s", exit, output)
	}
}

func TestTheLevelSaysWhatRootReaches(t *testing.T) {
	needRoot(t)
	for want, config := range map[string]Config{
		"its network and devices are isolated, root's files are not":         {},
		"its network is isolated, root's files and devices are not":          {NoFileCapabilities: true},
		"its network and devices are isolated, root's files are not; run it": {UserNamespace: true},
	} {
		config.Command = []string{"true"}
		p := newPlace(t, config)
		e := p.Enforcement()
		if !slices.ContainsFunc(e.Notes, func(note string) bool { return strings.Contains(note, want) }) {
			t.Errorf("%+v: %q", config, e.Notes)
		}
	}
}
