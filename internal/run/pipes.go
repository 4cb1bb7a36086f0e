package run

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/hidden"
	"sluice.dev/sluice/internal/sandbox"
)

// findPipes says which pipes the command gets: those that the caller names, and the two of
// a make around it.
func (c *Config) findPipes() (all []sandbox.Pipe, err error) {
	if len(c.Pipes) > sandbox.MaxPipes {
		return nil, fmt.Errorf("--fd: at most %d pipes", sandbox.MaxPipes)
	}
	for _, number := range c.Pipes {
		if number >= 3 && !inherited(number) { // what is open there is ours
			return nil, fmt.Errorf("--fd: %w", &sandbox.PipeError{Number: number, What: "is not open"})
		}
		all = append(all, sandbox.Pipe{Number: number, FD: number})
	}
	tokens, _ := jobserver(c.getenv("MAKEFLAGS"))
	tokens = slices.DeleteFunc(tokens, func(number int) bool { return slices.Contains(c.Pipes, number) })
	if len(all)+len(tokens) > sandbox.MaxPipes || slices.ContainsFunc(tokens, func(number int) bool { return !isPipe(number) }) {
		return all, nil // make inside warns of it
	}
	for _, number := range tokens {
		all = append(all, sandbox.Pipe{Number: number, FD: number})
	}
	return all, nil
}

// inherited says of a number that who started us left it open. All that we open ourselves
// is close-on-exec.
func inherited(number int) bool {
	flags, err := unix.FcntlInt(uintptr(number), unix.F_GETFD, 0)
	return err == nil && flags&unix.FD_CLOEXEC == 0
}

func isPipe(number int) bool {
	return number <= sandbox.MaxPipeNumber && inherited(number) && sandbox.NotAPipe(number) == ""
}

// jobserver says where MAKEFLAGS has the tokens of make -j: at two descriptors, to read and
// to write, or in a FIFO. The last counts.
func jobserver(flags string) (numbers []int, fifo string) {
	for word := range strings.FieldsSeq(flags) {
		if word == "--" { // variables follow
			break
		}
		value, found := strings.CutPrefix(word, "--jobserver-auth=")
		if !found {
			if value, found = strings.CutPrefix(word, "--jobserver-fds="); !found { // before make 4.2
				continue
			}
		}
		numbers, fifo = nil, ""
		if path, found := strings.CutPrefix(value, "fifo:"); found { // from make 4.4
			fifo = path
			continue
		}
		first, second, _ := strings.Cut(value, ",")
		read, err := strconv.Atoi(first)
		write, err2 := strconv.Atoi(second)
		if errors.Join(err, err2) == nil && read >= 3 && write >= 3 && read != write {
			numbers = []int{read, write}
		}
	}
	return numbers, fifo
}

// given are files that the command reaches though they may lie in what is hidden: sockets,
// and the FIFO of a make around it. The sandbox shows nothing else under their names,
// whatever has become of them by then.
func (c *Config) given() (all []hidden.Given) {
	for _, path := range c.Unix {
		all = append(all, hidden.Given{Path: path, Type: os.ModeSocket})
	}
	_, fifo := jobserver(c.getenv("MAKEFLAGS"))
	if info, err := os.Lstat(fifo); err == nil && info.Mode().Type() == os.ModeNamedPipe {
		all = append(all, hidden.Given{Path: fifo, Type: os.ModeNamedPipe})
	}
	return all
}

// sayClosed says which pipes the command's arguments name that it will not find open, as
// a shell's <(…) does; "" where there are none.
func (c *Config) sayClosed(passed []sandbox.Pipe) string {
	const folder = "/dev/fd/"
	var names, flags []string
	for _, argument := range c.Command[1:] {
		for _, rest, found := strings.Cut(argument, folder); found; _, rest, found = strings.Cut(rest, folder) {
			digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
			number, err := strconv.Atoi(rest[:digits])
			name := folder + strconv.Itoa(number)
			known := slices.Contains(names, name) || slices.ContainsFunc(passed, func(p sandbox.Pipe) bool { return p.Number == number })
			if err != nil || known || number < 3 || !isPipe(number) || len(names) == sandbox.MaxPipes {
				continue
			}
			names, flags = append(names, name), append(flags, "--fd "+strconv.Itoa(number))
		}
	}
	switch len(names) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("%s is closed inside; %s passes it to the command", names[0], flags[0])
	}
	return fmt.Sprintf("%s are closed inside; %s passes them to the command", listed(names), strings.Join(flags, " "))
}
