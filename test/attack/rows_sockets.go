package attack

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// dialUnix connects and waits until the server has said something.
func dialUnix(kind int, name string) error {
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		return err
	}
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2})
	unix.Write(fd, []byte("hello"))
	unix.Read(fd, make([]byte, 256))
	return nil
}

// namings are the ways in which a program can name a socket file.
func (in *Inside) namings(path string) map[string]string {
	folder, base := filepath.Split(path)
	all := map[string]string{"its name": path, "dots": folder + ".//./" + base}
	if os.Chdir(folder) == nil {
		all["a relative name"] = base
	}
	if fd, err := unix.Open(folder, unix.O_PATH, 0); err == nil {
		all["below a descriptor"] = fmt.Sprintf("/proc/self/fd/%d/%s", fd, base)
	}
	if fd, err := unix.Open(path, unix.O_PATH, 0); err == nil {
		all["a descriptor"] = fmt.Sprintf("/proc/self/fd/%d", fd)
		all["a descriptor below /dev"] = fmt.Sprintf("/dev/fd/%d", fd)
	}
	if link := filepath.Join(in.Own, "link"); os.Symlink(path, link) == nil {
		all["a link"] = link
	}
	if hard := filepath.Join(filepath.Dir(strings.TrimSuffix(folder, "/")), "hard"+strconv.Itoa(os.Getpid())); os.Link(path, hard) == nil {
		all["a hard link"] = hard
	}
	return all
}

// toSocket connects to a socket file by every naming.
func toSocket(name string) func(*Inside) error {
	return func(in *Inside) error {
		refused := 0
		for naming, name := range in.namings(filepath.Join(in.Folder, "sockets", name)) {
			for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET} {
				err := dialUnix(kind, name)
				if err == nil {
					return nil
				}
				if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.EPROTOTYPE) || errors.Is(err, unix.EPROTOTYPE) && !in.Bare {
					return fmt.Errorf("by %s: %w", naming, err)
				}
				refused++
			}
			if naming == "a hard link" {
				os.Remove(name)
			}
		}
		if refused < 12 {
			return fmt.Errorf("only %d namings could be tried", refused)
		}
		return unix.ECONNREFUSED
	}
}

func socketRows() []Row {
	refused := []error{unix.ECONNREFUSED}
	const right = "every connect ends with ECONNREFUSED; the server sees nothing"
	var rows []Row
	for _, way := range []struct{ id, name, tried string }{
		{"absolute", "absolute", "bound by its absolute name"},
		{"packets", "packets", "of the type SOCK_SEQPACKET"},
		{"relative", "relative", "bound by a relative name"},
		{"dotted", "dotted", "bound by a relative name with a dot"},
		{"renamed", "renamed", "renamed after it was bound"},
		{"hard-link", "hard-link", "hard-linked after it was bound, as OpenSSH does"},
		{"renamed-folder", "renamed-folder/below", "below a folder that was renamed"},
		{"beside", "deep/beside", "bound by a name that goes up a folder"},
		{"spaces", "spaces and\nlines", "with a space and a line's end in its name"},
		{"behind-link", "link", "behind a symbolic link"},
		{"link-folder", "link-to-folder/behind-link", "below a symbolic link"},
		{"elsewhere", "elsewhere", "bound in another network namespace"},
		{"last-of-many", "many/last", "the last of more than a thousand"},
	} {
		rows = append(rows, Row{ID: "unix-" + way.id, Tried: "Connect, by eight namings, to a unix socket outside: " + way.tried, Right: right,
			Bare: everybody, Inside: toSocket(way.name), Refused: refused})
	}
	rows = append(rows,
		Row{ID: "unix-late", Tried: "Connect, by eight namings, to a unix socket that was made after the start", Right: right,
			Bare: everybody, Inside: toSocket("late"), Refused: refused,
			Before: func(o *outside) error { return o.listenUnix(unix.SOCK_STREAM, o.socket("late")) }},
		Row{ID: "unix-sandbox", Tried: "Connect, by eight namings, to a unix socket of another sandbox", Right: right,
			Inside: toSocket("sandbox"), Refused: refused,
			Before: func(o *outside) error { return o.bindInSandbox(o.socket("sandbox")) }},
		Row{ID: "unix-mounted", Tried: "Connect to a unix socket outside by a mount of one's own, in a user namespace", Right: right,
			Bare: noRoot, Flags: unix.CLONE_NEWNS, Nested: func(in *Inside) error {
				if err := unix.Mount(filepath.Join(in.Folder, "sockets"), "/mnt", "", unix.MS_BIND, ""); err != nil {
					return held("no mount: " + err.Error())
				}
				return dialUnix(unix.SOCK_STREAM, "/mnt/absolute")
			}, Refused: refused},
		Row{ID: "unix-root", Tried: "Connect to a unix socket outside after a change of the root folder, in a user namespace", Right: right,
			Bare: noRoot, Flags: unix.CLONE_NEWNS, Nested: func(in *Inside) error {
				if err := unix.Chroot(filepath.Join(in.Folder, "sockets")); err != nil {
					return held("no chroot: " + err.Error())
				}
				return dialUnix(unix.SOCK_STREAM, "/absolute")
			}, Refused: refused},
		Row{ID: "unix-runtime", Tried: "Connect to a socket in the runtime folder of Sluice", Right: "the folder is empty",
			Bare: everybody, Inside: func(in *Inside) error { return dialUnix(unix.SOCK_STREAM, filepath.Join(in.Folder, "run/attach.sock")) }, Refused: []error{unix.ENOENT}},
		Row{ID: "unix-abstract", Tried: "Connect to an abstract unix socket outside", Right: "it is not there: such names are of a network namespace",
			Bare: everybody, Inside: func(in *Inside) error { return dialUnix(unix.SOCK_STREAM, "@"+in.Name) }, Refused: refused},
		Row{ID: "unix-datagrams", Tried: "Send a datagram to a unix socket outside, or make a socket that could", Right: "such sockets are not given",
			Bare: everybody, Inside: func(in *Inside) error {
				fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
				if err != nil {
					return err
				}
				defer unix.Close(fd)
				return unix.Sendto(fd, []byte("hello"), 0, &unix.SockaddrUnix{Name: filepath.Join(in.Folder, "sockets/datagrams")})
			}, Refused: family},
		Row{ID: "unix-pair", Tried: "Send a datagram to a unix socket outside from one of a pair", Right: "the pair has connections, and they ignore the name",
			Inside: func(in *Inside) error {
				pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
				if err != nil {
					return err
				}
				err = unix.Sendto(pair[0], []byte("hello"), 0, &unix.SockaddrUnix{Name: filepath.Join(in.Folder, "sockets/datagrams")})
				time.Sleep(50 * time.Millisecond) // for the door to count
				return held(fmt.Sprint("sent inside: ", err))
			}},
	)
	for mode, name := range races {
		rows = append(rows, Row{ID: "unix-race-" + name.id, Tried: "Connect again and again while another thread changes " + name.what, Right: "the outside is never reached",
			Bare: everybody, Inside: func(in *Inside) error { return in.race(mode) }})
	}
	return append(rows, Row{ID: "unix-own", Works: true, Tried: "Connect to a unix socket of the command's own by each of these namings", Right: "each reaches it",
		Inside: func(in *Inside) error {
			path := filepath.Join(in.Own, "own/s")
			if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
				return err
			}
			listener, err := net.Listen("unix", path)
			if err != nil {
				return err
			}
			defer listener.Close()
			go func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					fmt.Fprint(conn, "hello")
					conn.Close()
				}
			}()
			for naming, name := range in.namings(path) {
				if err := dialUnix(unix.SOCK_STREAM, name); err != nil {
					return fmt.Errorf("by %s: %w", naming, err)
				}
			}
			return nil
		}})
}
