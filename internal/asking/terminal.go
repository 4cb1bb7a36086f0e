//go:build linux

package asking

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"sluice.dev/sluice/internal/asking/pty"
)

// Bounds of what the terminal holds.
const (
	maxKeys   = 64 // pieces of input that the command has not taken; more are dropped
	maxAnswer = 16 // bytes of an answer
	// maxOutput is how much output is shown before the screen is another's: more than a
	// terminal of Linux holds, so that a question comes after all that was written before it.
	maxOutput = 64 << 10
	maxWords  = 64 << 10 // bytes of ours that wait while a question stands; more are dropped
	// drainTime bounds the wait for a terminal that takes no output any more.
	drainTime = 2 * time.Second
	// settleTime is how long a question stands before an answer is taken: what somebody
	// was typing when it came is not one.
	settleTime = 500 * time.Millisecond
)

// Terminal is the user's terminal, which the command does not have: it has a terminal of
// its own, whose output is copied to the user's and whose input comes from there. While a
// question stands the command's output waits, and no input reaches the command.
type Terminal struct {
	// Command is the command's end. It is handed to the command, and closed by
	// CloseCommand.
	Command *os.File

	user   *os.File
	master *os.File
	mark   string // which the command cannot know: it begins each question
	before *term.State

	plain  io.Writer  // where our words go when the terminal has been given back
	screen sync.Mutex // held by who reads the command's output or writes to the user's terminal; given back by free
	output [32 << 10]byte

	words sync.Mutex
	given bool   // back: it is not ours any more
	later []byte // words of ours that wait for the screen
	lost  int    // bytes of those that were dropped

	input  sync.Mutex
	answer *line // being typed; nil: input is the command's
	keys   chan []byte

	after   func(time.Duration) <-chan time.Time
	drained chan struct{} // the command's output has ended
	ended   chan struct{} // the command has
	closed  sync.Once
}

// Open takes over the terminal of this process. mark is shown with each question; plain
// takes words of ours when the terminal is given back.
func Open(mark string, plain io.Writer) (*Terminal, error) {
	user, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, errors.New("there is no terminal to ask at")
	}
	t, err := open(user, mark, plain)
	if err != nil {
		user.Close()
		return nil, err
	}
	return t, nil
}

func open(user *os.File, mark string, plain io.Writer) (*Terminal, error) {
	t, err := takeOver(user, mark, plain)
	if err != nil {
		return nil, err
	}
	go t.guarded(t.copyOut)
	go t.guarded(t.copyIn)
	go t.guarded(t.type_)
	return t, nil
}

// takeOver makes a Terminal that copies nothing yet.
func takeOver(user *os.File, mark string, plain io.Writer) (*Terminal, error) {
	settings, err := termios(user)
	if err != nil {
		return nil, fmt.Errorf("read the terminal's settings: %w", err)
	}
	master, slave, err := pty.Open()
	if err != nil {
		return nil, fmt.Errorf("make a terminal for the command: %w", err)
	}
	t := &Terminal{Command: slave, user: user, master: master, mark: mark, plain: plain, keys: make(chan []byte, maxKeys), after: time.After, drained: make(chan struct{}), ended: make(chan struct{})}
	if err := setTermios(slave, settings); err != nil {
		t.release()
		return nil, fmt.Errorf("set up the command's terminal: %w", err)
	}
	t.Resize()
	if t.before, err = makeRaw(user); err != nil {
		t.release()
		return nil, fmt.Errorf("take over the terminal: %w", err)
	}
	return t, nil
}

func (t *Terminal) guarded(work func()) {
	defer t.RestoreOnPanic()
	work()
}

// RestoreOnPanic, deferred, brings the user's settings back before this process dies.
func (t *Terminal) RestoreOnPanic() {
	if wrong := recover(); wrong != nil {
		t.restore()
		panic(wrong)
	}
}

// copyOut copies what the command writes, but while a question stands.
func (t *Terminal) copyOut() {
	defer close(t.drained)
	for pty.AwaitOutput(t.master) == nil {
		t.screen.Lock()
		err := t.showOutput()
		t.free()
		if err != nil {
			return
		}
	}
}

// showOutput shows what the command has written until now, at most maxOutput bytes. The
// caller holds the screen: nothing that was read waits for it elsewhere.
func (t *Terminal) showOutput() error {
	for left := maxOutput; left > 0; {
		n, err := pty.ReadOutput(t.master, t.output[:min(left, len(t.output))])
		if n <= 0 || err != nil {
			return err
		}
		t.user.Write(t.output[:n]) // nobody may look
		left -= n
	}
	return nil
}

// copyIn takes what the user types: for the answer of a question that stands, or for the
// command.
func (t *Terminal) copyIn() {
	buffer := make([]byte, 4<<10)
	for {
		n, err := t.user.Read(buffer)
		if err != nil {
			return
		}
		t.take(buffer[:n])
	}
}

func (t *Terminal) take(typed []byte) {
	t.input.Lock()
	defer t.input.Unlock()
	if t.answer != nil {
		t.answer.take(typed)
		return
	}
	select {
	case t.keys <- append([]byte(nil), typed...):
	default: // the command does not read
	}
}

// type_ types for the user at the command's terminal, where that may have to wait.
func (t *Terminal) type_() {
	for {
		select {
		case typed := <-t.keys:
			if _, err := t.master.Write(typed); err != nil {
				return
			}
		case <-t.drained:
			return
		}
	}
}

// Resize gives the command's terminal the size of the user's.
func (t *Terminal) Resize() {
	if size, err := pty.Size(t.user); err == nil {
		pty.SetSize(t.master, size) // an error says that it is closed
	}
}

// CloseCommand closes our copy of the command's end, so that its end is seen.
func (t *Terminal) CloseCommand() { t.Command.Close() }

// Write writes words of ours to the user's terminal. It does not wait: while a question
// stands they are kept for its end.
func (t *Terminal) Write(text []byte) (int, error) {
	t.words.Lock()
	if t.given {
		t.words.Unlock()
		return t.plain.Write(text)
	}
	if len(t.later)+len(text) > maxWords {
		t.lost += len(text)
	} else {
		t.later = append(t.later, text...)
	}
	t.words.Unlock()
	if t.screen.TryLock() {
		t.free()
	}
	return len(text), nil
}

// free writes what waits and unlocks the screen. Whoever holds it at that moment writes
// what comes between.
func (t *Terminal) free() {
	for {
		if text := t.waiting(); text != "" {
			t.say(text)
		}
		t.screen.Unlock()
		t.words.Lock()
		more := len(t.later) > 0
		t.words.Unlock()
		if !more || !t.screen.TryLock() {
			return
		}
	}
}

func (t *Terminal) waiting() string {
	t.words.Lock()
	defer t.words.Unlock()
	text := string(t.later)
	if t.lost > 0 {
		text += fmt.Sprintf("sluice: %d bytes of words came too fast to be shown\n", t.lost)
	}
	t.later, t.lost = nil, 0
	return text
}

// say writes lines to the terminal that is taken over. The caller holds the screen.
func (t *Terminal) say(text string) error {
	_, err := io.WriteString(t.user, withReturns(text))
	return err
}

// withReturns makes lines of a terminal in raw mode.
func withReturns(text string) string {
	out := make([]byte, 0, len(text)+8)
	for i := range len(text) {
		if text[i] == '\n' {
			out = append(out, '\r')
		}
		out = append(out, text[i])
	}
	return string(out)
}

// Suspend gives the terminal back for as long as stop runs, which stops this process. It
// waits for the end of a question; where the command ends before, nothing is stopped.
func (t *Terminal) Suspend(stop func()) {
	t.screen.Lock()
	defer t.free()
	select {
	case <-t.ended:
		return
	default:
	}
	t.restore()
	stop()
	if now, err := makeRaw(t.user); err == nil {
		t.before = now
	}
	t.Resize()
}

// Close shows the rest of what the command wrote and gives the terminal back. The command
// has ended.
func (t *Terminal) Close() {
	t.closed.Do(func() {
		close(t.ended)
		t.CloseCommand()
		late := time.NewTimer(drainTime)
		defer late.Stop()
		select {
		case <-t.drained:
		case <-late.C: // who holds the screen waits for a terminal that takes nothing
		}
		t.words.Lock()
		t.given = true
		t.words.Unlock()
		text := t.waiting()
		t.restore()
		t.release()
		io.WriteString(t.plain, text)
	})
}

func (t *Terminal) release() {
	t.Command.Close()
	t.master.Close()
	t.user.Close()
}

// recoverScreen takes a terminal out of whatever the command left it in: an unfinished
// sequence, hidden text, colours and character sets that show nothing, margins.
const recoverScreen = "\x18\x1b\\" + // cancel; end a string
	"\x1b]104\x1b\\\x1b]110\x1b\\\x1b]111\x1b\\" + // the colours' own values
	"\x1b[!p\x1b[0m\x0f\x1b(B\x1b[?25h\r\n"

// Prompt puts a question on the terminal until ctx ends. What the command wrote before is
// shown before.
func (t *Terminal) Prompt(ctx context.Context, q Question) (Answer, error) {
	t.screen.Lock()
	defer t.free()
	_ = t.showOutput()                 // copyOut meets the end of it too
	t.listen(newLine(func(string) {})) // nobody reads it
	defer t.listen(nil)
	text := recoverScreen + t.begin() + q.Program + " wants to reach " + q.Destination + ": " + q.Reason + "\n"
	for _, warning := range q.Warnings {
		text += t.begin() + "WARNING: " + warning + "\n"
	}
	t.say(text)
	settled := t.after(settleTime)
	var typed *line
	for {
		var answers <-chan string
		if typed != nil {
			t.say(t.begin() + "type once, always or no, and Enter: ")
			answers = typed.done
		}
		select {
		case <-settled:
			typed = newLine(t.echo)
			t.listen(typed)
		case <-t.ended:
			t.say("\n")
			return No, errors.New("the command has ended")
		case <-ctx.Done():
			t.say("\n" + t.begin() + "no answer, so it is denied\n")
			return No, context.Cause(ctx)
		case answer := <-answers:
			t.say("\n")
			switch answer {
			case "once":
				return Once, nil
			case "always":
				return Always, nil
			case "no", "n":
				return No, nil
			}
		}
	}
}

// listen gives what is typed from now on to answer, or where that is nil to the command.
func (t *Terminal) listen(answer *line) {
	t.input.Lock()
	defer t.input.Unlock()
	if answer != nil {
		pty.Control(t.user, func(fd int) error { return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH) }) // it was typed before
	}
	t.answer = answer
}

func (t *Terminal) begin() string { return "sluice [" + t.mark + "]: " }

// echo shows what is typed as an answer; Prompt holds the screen.
func (t *Terminal) echo(text string) { io.WriteString(t.user, text) }

func termios(f *os.File) (settings *unix.Termios, err error) {
	err = pty.Control(f, func(fd int) (err error) {
		settings, err = unix.IoctlGetTermios(fd, unix.TCGETS)
		return err
	})
	return settings, err
}

func setTermios(f *os.File, settings *unix.Termios) error {
	return pty.Control(f, func(fd int) error { return unix.IoctlSetTermios(fd, unix.TCSETS, settings) })
}

func makeRaw(f *os.File) (before *term.State, err error) {
	err = pty.Control(f, func(fd int) (err error) {
		before, err = term.MakeRaw(fd)
		return err
	})
	return before, err
}

// restore gives the user's settings back.
func (t *Terminal) restore() {
	pty.Control(t.user, func(fd int) error { return term.Restore(fd, t.before) })
}
