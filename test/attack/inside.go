package attack

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Inside is what a program inside knows of the outside: all that it could find out.
type Inside struct {
	Folder string // where the outside has its files
	Own    string // a folder of the attempt
	Sluice string
	Bare   bool // there is no sandbox
	Deep   bool // it is in a user namespace of its own
	IPv6   bool
	TTY    string // a terminal outside; "" where there is none
	Who    Who
	UID    int
	Cgroup string // the name of the victim's, where it has one of its own
	Name   string // of what the outside has where a name is all that there is
}

const (
	// patience bounds one attempt; a refusal comes at once.
	patience = 20 * time.Second
	// raced bounds all of an attempt that is made again and again: in an emulated machine
	// a thousand connects take a minute.
	raced = 6 * patience
)

// insideVariable carries an Inside.
const insideVariable = "SLUICE_ATTACK_INSIDE"

func readInside() (*Inside, error) {
	in := new(Inside)
	if err := json.Unmarshal([]byte(os.Getenv(insideVariable)), in); err != nil {
		return nil, fmt.Errorf("read %s: %w", insideVariable, err)
	}
	return in, nil
}

// insideMain is the command of the sandbox: it makes the attempts whose names come by
// a pipe with a name, each in a process of its own, and prints what came of them.
func insideMain() error {
	in, err := readInside()
	if err != nil {
		return err
	}
	orders, err := os.Open(filepath.Join(in.Folder, "orders"))
	if err != nil {
		return err
	}
	defer orders.Close()
	signal.Ignore(unix.SIGHUP) // which an attempt sends to the whole group
	encoder := json.NewEncoder(os.Stdout)
	for lines := bufio.NewScanner(orders); lines.Scan(); {
		if err := encoder.Encode(in.inProcess(lines.Text())); err != nil {
			return err
		}
	}
	return nil
}

// inProcess makes one attempt in a process of its own.
func (in *Inside) inProcess(id string) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), raced)
	defer cancel()
	command := exec.CommandContext(ctx, "/proc/self/exe", "row", id)
	if in.Who == Su && !in.Bare {
		command.SysProcAttr = &syscall.SysProcAttr{
			Credential:  &syscall.Credential{Uid: uint32(in.UID), Gid: uint32(in.UID)},
			AmbientCaps: []uintptr{unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_SETUID, unix.CAP_SETGID},
		}
	}
	if in.Bare && os.Geteuid() == 0 { // the mounts of the others stay
		command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}
	return outcomeOf(command, id)
}

// outcomeOf runs what makes an attempt, and reads the last line of it.
func outcomeOf(command *exec.Cmd, id string) outcome {
	var said strings.Builder
	command.Stdin, command.Stderr, command.WaitDelay = os.Stdin, &said, time.Second
	output, err := command.Output()
	var o outcome
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	if json.Unmarshal([]byte(lines[len(lines)-1]), &o) == nil && o.ID == id {
		return o
	}
	return outcome{ID: id, Text: fmt.Sprintf("the attempt was ended (%v): %s%s", err, output, said.String())}
}

// inNamespaces makes an attempt with every capability in namespaces of its own.
func (in *Inside) inNamespaces(row *Row) outcome {
	deep := *in
	deep.Deep = true
	encoded, err := json.Marshal(deep)
	if err != nil {
		return outcome{ID: row.ID, Text: err.Error()}
	}
	command := exec.Command("/proc/self/exe", "row", row.ID)
	command.Env = append(os.Environ(), insideVariable+"="+string(encoded))
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | row.Flags,
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_DAC_OVERRIDE, unix.CAP_SYS_CHROOT, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_SYS_PTRACE, unix.CAP_KILL},
	}
	if uid := os.Geteuid(); uid != 0 { // to map uid 0 takes a capability that it does not have
		command.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		command.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
	}
	o := outcomeOf(command, row.ID)
	if command.Process == nil { // no such namespaces: they hold nothing then that could be abused
		o.Expected = true
	}
	return o
}

// rowMain makes one attempt.
func rowMain(id string) error {
	in, err := readInside()
	if err != nil {
		return err
	}
	row, err := find(id)
	if err != nil {
		return err
	}
	if !in.Deep { // whoever made us has one, and may be the only one who can write there
		if in.Own, err = os.MkdirTemp("", "attack-"); err != nil {
			return err
		}
		defer os.RemoveAll(in.Own)
	}
	return json.NewEncoder(os.Stdout).Encode(row.try(in))
}
