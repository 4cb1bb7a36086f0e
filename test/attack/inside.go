package attack

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Inside is what a program inside knows of the outside: all that it could find out.
type Inside struct {
	Folder  string // where the outside has its files
	Own     string // a folder of the attempt
	Sluice  string
	Bare    bool // there is no sandbox
	IPv6    bool
	Victim  int    // a process outside
	TTY     string // a terminal outside; "" where there is none
	Address map[string]string
}

// patience bounds one attempt; a refusal comes at once.
const patience = 20 * time.Second

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
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, "/proc/self/exe", "row", id)
	command.Stdin = os.Stdin
	var said strings.Builder
	command.Stderr = &said
	command.WaitDelay = time.Second
	if in.Bare && os.Geteuid() == 0 { // the mounts of the others stay
		command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}
	output, err := command.Output()
	var o outcome
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	if json.Unmarshal([]byte(lines[len(lines)-1]), &o) == nil && o.ID == id {
		return o
	}
	return outcome{ID: id, Text: fmt.Sprintf("the attempt was ended (%v): %s%s", err, output, said.String())}
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
	if in.Own, err = os.MkdirTemp("", "attack-"); err != nil {
		return err
	}
	defer os.RemoveAll(in.Own)
	return json.NewEncoder(os.Stdout).Encode(row.try(in))
}
