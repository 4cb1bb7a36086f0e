package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"sluice.dev/sluice/internal/tail"
	"sluice.dev/sluice/test/kernels/verdict"
)

// target is a processor, and how a machine with it is emulated.
type target struct {
	arch     string // as Go and Debian say it
	emulator string
	machine  []string
	console  string // of the kernel
}

// The processors are the newest that the emulator has, without KVM: what is tested must
// not depend on the machine. An arm64 signs pointers by a cipher that takes most of the
// emulator's time, so it gets a cheaper one.
var targets = []target{
	{"amd64", "qemu-system-x86_64", []string{"-machine", "q35", "-cpu", "max"}, "ttyS0"},
	{"arm64", "qemu-system-aarch64", []string{"-machine", "virt", "-cpu", "max,pauth-impdef=on"}, "ttyAMA0"},
}

// check says whether this machine has the emulator.
func (t target) check() error {
	if _, err := exec.LookPath(t.emulator); err != nil {
		return &missingError{"install qemu-system-x86 and qemu-system-arm: " + err.Error()}
	}
	return nil
}

// machine is what one boot is given.
type machine struct {
	kernel, image string
	rows          string
	verbose       bool
}

const (
	memory = "2G" // the image is held in it
	// parameters: one reboot is the end; of the kernel's own lines only those of errors.
	parameters = "panic=-1 quiet loglevel=4 printk.devkmsg=on"
)

// boot starts the machine, gives each row to said, and returns when it has ended. Without
// a last row the error has the end of what the console showed.
func boot(ctx context.Context, t target, m machine, said func(verdict.Row)) error {
	arguments := append([]string{"-accel", "tcg,thread=multi", "-smp", "2", "-m", memory, "-nographic", "-no-reboot", "-nic", "none", "-monitor", "none", "-serial", "stdio"}, t.machine...)
	arguments = append(arguments, "-kernel", m.kernel, "-initrd", m.image,
		"-append", "console="+t.console+" "+parameters+" rows="+m.rows)
	command := exec.CommandContext(ctx, t.emulator, arguments...)
	command.WaitDelay = 5 * time.Second
	var complaints tail.Tail
	command.Stderr = &complaints
	console, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	shown := new(tail.Tail)
	var everything io.Writer = shown
	if m.verbose {
		everything = io.MultiWriter(shown, os.Stderr)
	}
	last, readErr := listen(console, everything, said)
	io.Copy(io.Discard, console) // it must not block on its way to the end
	err = command.Wait()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("the machine did not end in time: %w\n%s", ctx.Err(), shown)
	case readErr != nil:
		return fmt.Errorf("%w\n%s", readErr, shown)
	case err != nil:
		return fmt.Errorf("%s: %w\n%s\n%s", t.emulator, err, &complaints, shown)
	case !last:
		return fmt.Errorf("the machine ended before its last row; its console showed\n%s", shown)
	}
	return nil
}

// listen reads a console to its end or its last row. What is not a row goes to shown.
func listen(console io.Reader, shown io.Writer, said func(verdict.Row)) (last bool, err error) {
	lines := bufio.NewReaderSize(console, verdict.MaxRow+4096)
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) { // no row is so long
			shown.Write(line)
			continue
		}
		r, ours, rowErr := verdict.Read(string(line))
		switch {
		case rowErr != nil:
			return false, rowErr
		case ours && r.Last:
			return true, nil
		case ours:
			said(r)
		case len(strings.TrimSpace(string(line))) > 0:
			shown.Write(line)
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return false, err
		}
	}
}
