//go:build linux

// Package pty makes pseudoterminals whose reads end when they are closed, and carries
// their sizes. The terminal of sluice run --ask calls it, and its tests. It must never use
// os.File.Fd, after which a close waits for the read instead.
package pty

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Open makes a terminal. Device is the end that programs have; it is nobody's controlling
// terminal yet.
func Open() (terminal, device *os.File, err error) {
	terminal, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	var number int
	err = Control(terminal, func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		return err
	})
	if err == nil {
		device, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		terminal.Close()
		return nil, nil, err
	}
	return terminal, device, nil
}

// Control calls f with the descriptor of a file.
func Control(file *os.File, f func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = f(int(fd)) })
	return errors.Join(err, failed)
}

// AwaitOutput waits until programs have written something to a terminal, or the last one
// closed its end, and takes nothing of it. It fails when terminal is closed.
func AwaitOutput(terminal *os.File) error {
	raw, err := terminal.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool {
		look := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(look, 0)
		return n > 0 || err != nil && err != unix.EINTR
	})
}

// ReadOutput reads what programs have written to a terminal; 0 says that it is all read.
// The kernel passes on what was written before it says so. It does not wait for whoever
// waits in AwaitOutput. EIO says that nobody has the other end any more.
func ReadOutput(terminal *os.File, into []byte) (n int, err error) {
	err = Control(terminal, func(fd int) (err error) {
		for {
			switch n, err = unix.Read(fd, into); err {
			case unix.EINTR:
				continue
			case unix.EAGAIN:
				n, err = 0, nil
			}
			return err
		}
	})
	return max(n, 0), err
}

// Size returns the size of a terminal.
func Size(file *os.File) (size unix.Winsize, err error) {
	err = Control(file, func(fd int) error {
		now, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
		if err == nil {
			size = *now
		}
		return err
	})
	return size, err
}

// SetSize gives a terminal a size, of which its programs are told.
func SetSize(file *os.File, size unix.Winsize) error {
	return Control(file, func(fd int) error { return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &size) })
}
