package attack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// outside is what there is around the sandbox, all of it the command's user's: what
// protects it is the sandbox and not the permissions of files.
type outside struct {
	plan
	doors  doors
	inside Inside
	victim *exec.Cmd
	ended  chan struct{} // closed when the victim has

	group  int    // the process group of the victim and of the sandbox
	mark   int    // see markAllowed
	cgroup string // of the victim; "" where it has none of its own
	close  []func()
}

// worldMain is the outside: it starts the sandbox, orders the attempts and judges.
func worldMain() error {
	p, err := readPlan()
	if err != nil {
		return err
	}
	o := &outside{plan: *p, doors: doors{came: make(map[string]int)}}
	os.Unsetenv(planVariable)
	unix.Umask(0)
	runtime.LockOSThread() // at whose end the kernel ends what it started
	o.inside = Inside{Folder: o.Folder, Sluice: o.Sluice, Bare: o.Bare, Who: o.Who, UID: o.UID, Name: filepath.Base(o.Folder)}
	defer o.stop()
	if err := o.prepare(); err != nil {
		return fmt.Errorf("prepare the outside: %w", err)
	}
	return o.attempts()
}

func (o *outside) prepare() error {
	if err := errors.Join(o.doors.open(), o.doors.serveNames()); err != nil {
		return err
	}
	_, err := os.Stat("/proc/sys/net/ipv6")
	o.inside.IPv6 = err == nil
	for _, prepare := range []func() error{
		o.makeFiles, o.doors.openTLS(o.ca()), o.makeSockets, o.openTerminal, o.makeQueues, o.startVictim, o.placeVictim,
	} {
		if err := prepare(); err != nil {
			return err
		}
	}
	return nil
}

// own makes a file and gives it to the command's user.
func (o *outside) own(path string, create func(string) error) error {
	err := create(path)
	if err == nil && os.Geteuid() != o.UID {
		err = os.Lchown(path, o.UID, o.UID)
	}
	return err
}

// startVictim starts a process of the command's user that does nothing.
func (o *outside) startVictim() error {
	victim := exec.Command("/proc/self/exe", "victim")
	victim.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true, Pgid: o.group}
	if os.Geteuid() != o.UID {
		victim.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(o.UID), Gid: uint32(o.UID)}
	}
	if err := victim.Start(); err != nil {
		return err
	}
	number := []byte(strconv.Itoa(victim.Process.Pid))
	if err := os.WriteFile(filepath.Join(o.Folder, "victim"), number, 0o644); err != nil {
		return err
	}
	if o.group == 0 {
		o.group = victim.Process.Pid
	}
	ended := make(chan struct{})
	go func() { // with what it was given: another may take its place
		victim.Wait()
		close(ended)
	}()
	o.victim, o.ended = victim, ended
	return nil
}

func (o *outside) stop() {
	if o.ended != nil {
		o.victim.Process.Kill()
		<-o.ended
	}
	if o.cgroup != "" {
		os.Remove(o.cgroup)
	}
	for _, close := range slices.Backward(o.close) {
		close()
	}
	o.doors.stop()
}

// command is sluice with the program inside, or that program alone.
func (o *outside) command() (*exec.Cmd, error) {
	encoded, err := json.Marshal(o.inside)
	if err != nil {
		return nil, err
	}
	arguments := []string{filepath.Join(o.Folder, "attack"), "inside"}
	command := exec.Command(arguments[0], arguments[1:]...)
	if !o.Bare {
		var sluice []string
		for _, name := range []string{"allowed.example:80", "allowed.example:443", "allowed.example:5432/tcp", "private.example:80", "metadata.example:80", "loopback.example:80"} {
			sluice = append(sluice, "--allow", name)
		}
		command = o.sluice(append(append(sluice, "--"), arguments...)...)
	}
	command.Dir = filepath.Join(o.Folder, "home")
	command.Env = append(os.Environ(), command.Env...)
	command.Env = append(command.Env, insideVariable+"="+string(encoded), "HOME="+command.Dir)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true, Pgid: o.group}
	if o.Bare && os.Geteuid() != o.UID {
		command.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(o.UID), Gid: uint32(o.UID)}
	}
	around, err := os.Open(o.Folder)
	if err != nil {
		return nil, err
	}
	data, err := os.Open(o.inside.data())
	if err != nil {
		return nil, err
	}
	o.close = append(o.close, func() { around.Close(); data.Close() })
	command.Stdin, command.ExtraFiles = around, []*os.File{data}
	return command, nil
}

// ca is the file of the authority that signs what the TLS server of the outside shows.
func (o *outside) ca() string { return filepath.Join(o.Folder, "ca.pem") }

// sluice is `sluice run` with more arguments.
func (o *outside) sluice(arguments ...string) *exec.Cmd {
	all := []string{"run", "--resolver", addressResolver, "--upstream-ca", o.ca()}
	if o.Who == RunAs {
		all = append(all, "--run-as", strconv.Itoa(o.UID))
	}
	command := exec.Command(o.Sluice, append(all, arguments...)...)
	command.Env = append(os.Environ(), "SLUICE_RUNTIME="+filepath.Join(o.Folder, "run"), "SLUICE_DATA="+o.inside.data())
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return command
}

// attempts starts the sandbox and orders each attempt that applies.
func (o *outside) attempts() error {
	orders, err := o.ordersPipe()
	if err != nil {
		return err
	}
	defer orders.Close()
	command, err := o.command()
	if err != nil {
		return err
	}
	var said bytes.Buffer
	command.Stderr = &said
	output, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		return err
	}
	defer func() {
		command.Process.Kill()
		command.Wait()
	}()
	decoder := json.NewDecoder(output)
	failed := 0
	for _, row := range Table() {
		if !row.triedBy(o.Who) || len(o.Only) > 0 && !slices.Contains(o.Only, row.ID) || o.Bare && row.Bare&o.Who == 0 && !slices.Contains(o.Only, row.ID) {
			continue
		}
		got, err := o.attempt(&row, orders, decoder)
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", row.ID, err, said.String())
		}
		word, text := o.judge(&row, got)
		if word == "FAIL" {
			failed++
		}
		fmt.Printf("%-4s %s — %s: %s\n", word, row.ID, row.Tried, oneLine(text))
	}
	if failed > 0 {
		orders.Close()
		command.Process.Signal(syscall.SIGTERM)
		command.Wait()
		fmt.Fprint(os.Stderr, said.String()) // by it a failure is understood
		return errFailed
	}
	return nil
}

// errFailed says that attempts did not end as they should; their lines say which.
var errFailed = errors.New("not all attempts ended as they should")

// judge gives the verdict in a sandbox; without one an attempt is to get through.
func (o *outside) judge(row *Row, got outcome) (word, text string) {
	if !o.Bare {
		return row.verdict(got)
	}
	switch {
	case got.Skipped:
		return "skip", got.Text
	case got.Reached:
		return "ok", "without a sandbox it gets through: " + got.Text
	}
	return "FAIL", "without a sandbox it does not get through, so it proves nothing: " + got.Text
}

// oneLine cuts a text off where it is long.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 160 {
		text = text[:160] + "…"
	}
	return text
}

// ordersPipe makes the pipe by which the program inside is told what to try.
func (o *outside) ordersPipe() (*os.File, error) {
	path := filepath.Join(o.Folder, "orders")
	if err := o.own(path, func(path string) error { return unix.Mkfifo(path, 0o644) }); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR, 0) // also for reading, or it would wait for the program inside
}

// attempt orders one and looks at the outside before and after.
func (o *outside) attempt(row *Row, orders io.Writer, decoder *json.Decoder) (got outcome, err error) {
	if row.Before != nil {
		var s skipped
		if err := row.Before(o); errors.As(err, &s) {
			return outcome{ID: row.ID, Skipped: true, Text: s.Error()}, nil
		} else if err != nil {
			return got, fmt.Errorf("prepare the outside: %w", err)
		}
	}
	before := o.doors.seen()
	if _, err := fmt.Fprintln(orders, row.ID); err != nil {
		return got, err
	}
	if err := decoder.Decode(&got); err != nil {
		return got, fmt.Errorf("the program inside is gone: %w", err)
	}
	if door, reached := o.doors.since(before); reached {
		got.Reached, got.Text = true, fmt.Sprintf("%s was reached (%s)", door, got.Text)
	}
	if err := o.stillThere(row); err != nil {
		got.Reached, got.Text = true, fmt.Sprintf("%v (%s)", err, got.Text)
	}
	return got, nil
}

// stillThere returns an error where the attempt has changed the outside.
func (o *outside) stillThere(row *Row) error {
	if o.Bare && row.Ends {
		select {
		case <-o.ended:
		case <-time.After(patience):
		}
	}
	select {
	case <-o.ended:
		if err := errors.Join(o.startVictim(), o.placeVictim()); err != nil {
			return err
		}
		return errors.New("a process outside was ended")
	default:
	}
	if row.After != nil {
		return row.After(o)
	}
	return nil
}
