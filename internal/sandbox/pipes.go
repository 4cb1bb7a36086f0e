package sandbox

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Bounds of Config.Pipes.
const (
	// MaxPipes bounds how many there are.
	MaxPipes = 16
	// MaxPipeNumber is the highest number that one has for the command: below it each
	// number that is free costs its start a call.
	MaxPipeNumber = 1023
)

// Pipe is a pipe, or a FIFO, that the command finds open under a number.
type Pipe struct {
	Number int // for the command, from 3
	FD     int // of ours; it stays the caller's
}

// PipeError says which number the command cannot be given.
type PipeError struct {
	Number int
	What   string // "is not open"
}

func (e *PipeError) Error() string { return fmt.Sprintf("descriptor %d %s", e.Number, e.What) }

// checkPipes refuses all that is not a pipe: a pipe reaches who has its other end, and
// nothing else.
func (c *Config) checkPipes() error {
	if len(c.Pipes) > MaxPipes {
		return fmt.Errorf("sandbox: %d pipes, at most %d are taken", len(c.Pipes), MaxPipes)
	}
	seen := make(map[int]bool)
	for _, pipe := range c.Pipes {
		switch {
		case pipe.Number < len(streamNames):
			return &PipeError{pipe.Number, "is no pipe to pass: 0 to 2 are the standard streams, which the command has in any case"}
		case pipe.Number > MaxPipeNumber:
			return &PipeError{pipe.Number, fmt.Sprintf("has too high a number: at most %d is taken", MaxPipeNumber)}
		case seen[pipe.Number]:
			return &PipeError{pipe.Number, "is there twice"}
		}
		seen[pipe.Number] = true
		if what := NotAPipe(pipe.FD); what != "" {
			return &PipeError{pipe.Number, what}
		}
	}
	return nil
}

// NotAPipe says what an open descriptor is instead, "" for a pipe.
func NotAPipe(fd int) (what string) {
	const onlyPipes = "; only pipes are passed to a command"
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		if errors.Is(err, unix.EBADF) {
			return "is not open"
		}
		return fmt.Sprintf("cannot be looked at (%v)", err)
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return fmt.Sprintf("cannot be looked at (%v)", err)
	}
	if flags&unix.O_PATH != 0 {
		return "stands for a path, and is not open for reading or writing" + onlyPipes
	}
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFIFO:
		return ""
	case unix.S_IFSOCK:
		return "is a socket, through which the command could leave the sandbox" + onlyPipes + ": put one between, as in: 5< <(cat <&4)"
	case unix.S_IFDIR:
		return "is a folder, through which the command would reach what is hidden from it" + onlyPipes
	case unix.S_IFCHR, unix.S_IFBLK:
		return "is a device" + onlyPipes
	case unix.S_IFREG:
		return "is a file, which the command opens by its name" + onlyPipes
	}
	return "is not a pipe" + onlyPipes
}

// pipeNumbers are those under which the command finds them.
func pipeNumbers(pipes []Pipe) (numbers []int) {
	for _, pipe := range pipes {
		numbers = append(numbers, pipe.Number)
	}
	return numbers
}

// commandFiles is what a command has open: the standard streams, and the pipes by their
// numbers. What lies between is closed.
func commandFiles(pipes []Pipe) []uintptr {
	files := []uintptr{0, 1, 2}
	for _, pipe := range pipes {
		for len(files) <= pipe.Number {
			files = append(files, ^uintptr(0))
		}
		files[pipe.Number] = uintptr(pipe.FD)
	}
	return files
}

// takePipes takes them from the descriptors that came with the set-up, of which they are
// the last.
func takePipes(files, numbers []int) (others []int, pipes []Pipe, err error) {
	first := len(files) - len(numbers)
	if first < 0 {
		return nil, nil, errors.New("pipes are missing")
	}
	for i, number := range numbers {
		pipes = append(pipes, Pipe{Number: number, FD: files[first+i]})
	}
	return files[:first], pipes, nil
}

// ClosePipes closes ours once the command has its own: who reads one waits until all who
// may write have gone.
func ClosePipes(pipes []Pipe) {
	for _, pipe := range pipes {
		unix.Close(pipe.FD)
	}
}
