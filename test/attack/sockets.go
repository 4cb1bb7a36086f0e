package attack

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

const doorUnix = "a unix socket outside"

// many is more sockets than a sandbox hides by name where it cannot decide over each
// connect.
const many = 1100

// listenUnix binds a name as it is given, which may be relative, and serves it.
func (o *outside) listenUnix(kind int, name string) error {
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: name}), unix.Listen(fd, 16))
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	if err != nil {
		return fmt.Errorf("listen on %s: %w", name, err)
	}
	listener, err := net.FileListener(file)
	if err != nil {
		return err
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	o.doors.stream(doorUnix, listener)
	return nil
}

func (o *outside) socket(name string) string { return filepath.Join(o.Folder, "sockets", name) }

// in runs something on a thread that stands in a folder, as a daemon that binds a
// relative name does.
func in(folder string, do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the folder is the thread's own
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Chdir(folder)
		}
		if err == nil {
			err = do()
		}
		done <- err
	}()
	return <-done
}

// makeSockets makes those of the outside in every way in which a socket file comes to
// a name.
func (o *outside) makeSockets() error {
	folder := o.socket("")
	err := errors.Join(
		o.own(folder, func(path string) error { return os.Mkdir(path, 0o777) }),
		o.own(filepath.Join(folder, "many"), func(path string) error { return os.Mkdir(path, 0o777) }),
		o.listenUnix(unix.SOCK_STREAM, o.socket("absolute")),
		o.listenUnix(unix.SOCK_SEQPACKET, o.socket("packets")),
		o.listenUnix(unix.SOCK_STREAM, filepath.Join(o.Folder, "run/attach.sock")),
		o.listenUnix(unix.SOCK_STREAM, "@"+o.inside.Name),
	)
	if err != nil {
		return err
	}
	stream := func(name string) error { return o.listenUnix(unix.SOCK_STREAM, name) }
	err = in(folder, func() error {
		return errors.Join(
			stream("relative"), stream("./dotted"),
			stream("first-name"), os.Rename("first-name", "renamed"),
			stream("one-name"), os.Link("one-name", "hard-link"), os.Remove("one-name"), // as OpenSSH's ControlMaster
			os.Mkdir("folder", 0o777), stream("folder/below"), os.Rename("folder", "renamed-folder"),
			os.MkdirAll("deep/deeper", 0o777), stream("deep/deeper/../beside"),
			stream("spaces and\nlines"),
			stream("behind-link"), os.Symlink(o.socket("behind-link"), "link"), os.Symlink(".", "link-to-folder"),
		)
	})
	if err != nil {
		return err
	}
	if err := o.datagramSocket(o.socket("datagrams")); err != nil {
		return err
	}
	err = in(o.socket("many"), func() error {
		for i := range many {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err == nil {
				err = errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: strconv.Itoa(i)}), unix.Listen(fd, 16))
			}
			if err != nil {
				return err
			}
			o.close = append(o.close, func() { unix.Close(fd) })
		}
		return stream("last")
	})
	if err != nil {
		return err
	}
	return o.bindElsewhere(o.socket("elsewhere"))
}

func (o *outside) datagramSocket(path string) error {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	o.close = append(o.close, func() { conn.Close() })
	go func() {
		for buffer := make([]byte, 64); ; {
			if _, err := conn.Read(buffer); err != nil {
				return
			}
			o.doors.entered(doorUnix)
		}
	}()
	return nil
}

// bindElsewhere lets another process bind a name in a network namespace of its own.
func (o *outside) bindElsewhere(path string) error {
	daemon := exec.Command("/proc/self/exe", "daemon", path)
	daemon.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		daemon.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
	}
	daemon.Stderr = os.Stderr
	return o.startDaemon(daemon)
}

// bindInSandbox lets the command of another sandbox bind a name.
func (o *outside) bindInSandbox(path string) error {
	daemon := o.sluice("--", filepath.Join(o.Folder, "attack"), "daemon", path)
	daemon.Stderr = os.Stderr
	return o.startDaemon(daemon)
}

// startDaemon starts what says that it listens, and then who came.
func (o *outside) startDaemon(daemon *exec.Cmd) error {
	output, err := daemon.StdoutPipe()
	if err == nil {
		err = daemon.Start()
	}
	if err != nil {
		return err
	}
	o.close = append(o.close, func() { daemon.Process.Kill(); daemon.Wait() })
	said := bufio.NewScanner(output)
	if !said.Scan() || said.Text() != "listening" {
		return fmt.Errorf("a daemon in a network of its own says %q", said.Text())
	}
	go func() {
		for said.Scan() {
			o.doors.entered(doorUnix)
		}
	}()
	return nil
}

// daemonMain listens on a path and says who came.
func daemonMain(path string) error {
	unix.Umask(0)
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	fmt.Println("listening")
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		fmt.Println("reached")
		fmt.Fprint(conn, greeting(doorUnix))
		conn.Close()
	}
}
