package attack

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const doorTerminal = "a terminal outside"

// openTerminal makes a terminal of the outside and counts what is written to it.
func (o *outside) openTerminal() error {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil // the attempts say that there is none
	}
	o.close = append(o.close, func() { master.Close() })
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		return err
	}
	name := fmt.Sprint("/dev/pts/", number)
	held, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0) // or the first close would be its end
	if err != nil {
		return nil
	}
	o.close = append(o.close, func() { held.Close() })
	if err := o.own(name, func(string) error { return nil }); err != nil {
		return err
	}
	o.inside.TTY = name
	go func() {
		for buffer := make([]byte, 256); ; {
			if _, err := master.Read(buffer); err != nil {
				return
			}
			o.doors.entered(doorTerminal)
		}
	}()
	return nil
}

// typeInto makes calls that put bytes into a terminal, as if somebody typed them.
func typeInto(request uintptr) func(*Inside) error {
	return func(*Inside) error {
		c := byte('x')
		return call(unix.SYS_IOCTL, 0, request, uintptr(unsafe.Pointer(&c)))
	}
}

func terminalRows() []Row {
	refused := []error{unix.EPERM}
	open := func(paths ...string) func(*Inside) error {
		return func(*Inside) (err error) {
			for _, path := range paths {
				file, opened := os.OpenFile(path, os.O_WRONLY|unix.O_NOCTTY, 0)
				if opened == nil {
					file.Close()
					return nil
				}
				err = errors.Join(err, opened)
			}
			return err
		}
	}
	return []Row{
		{ID: "terminal-type", Tried: "Type into the terminal for who reads it later (TIOCSTI, TIOCLINUX), also behind a bit that the kernel does not look at", Right: "it is not permitted",
			Inside: each(refused, typeInto(unix.TIOCSTI), typeInto(unix.TIOCSTI|high), typeInto(unix.TIOCLINUX)), Refused: refused},
		{ID: "terminal-other", Tried: "Write to another terminal of the same user", Right: "it is not there",
			Bare: everybody, Inside: func(in *Inside) error {
				if in.TTY == "" {
					return skipped("the outside has no terminal")
				}
				file, err := os.OpenFile(in.TTY, os.O_WRONLY|unix.O_NOCTTY, 0)
				if err != nil {
					return err
				}
				defer file.Close()
				_, err = file.WriteString("typed\n")
				return err
			}, Refused: []error{unix.ENOENT, unix.EIO, unix.EACCES}},
		{ID: "terminal-nested", Tried: "Uncover the terminals outside in a user namespace, and write to one", Right: "what covers them stays",
			Flags: unix.CLONE_NEWNS, Nested: func(in *Inside) error {
				if in.TTY == "" {
					return skipped("the outside has no terminal")
				}
				unix.Unmount("/dev/pts", unix.MNT_DETACH)
				unix.Mount("/dev", "/mnt", "", unix.MS_BIND, "") // without what is mounted below
				for _, path := range []string{in.TTY, "/mnt" + in.TTY[len("/dev"):]} {
					if file, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOCTTY, 0); err == nil {
						file.WriteString("typed\n")
						file.Close()
					}
				}
				return held("nothing that was written arrived")
			}},
		{ID: "terminal-console", Tried: "Write to the consoles of the machine, or read their screens", Right: "it is not permitted, or they are not there",
			Inside: open("/dev/tty0", "/dev/tty1", "/dev/vcs1", "/dev/vcsa1"), Refused: []error{unix.EACCES, unix.ENOENT, unix.ENXIO, unix.EPERM}},
	}
}
