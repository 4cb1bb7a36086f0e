//go:build linux

package asking

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/asking/askingtest"
	"sluice.dev/sluice/internal/asking/pty"
)

// taken is a terminal that was taken over; the test is its command.
type taken struct {
	*Terminal
	screen  *askingtest.Screen
	plain   *bytes.Buffer
	settled chan time.Time
}

func take(t *testing.T) *taken {
	t.Helper()
	return takeBy(t, open)
}

func takeBy(t *testing.T, open func(*os.File, string, io.Writer) (*Terminal, error)) *taken {
	t.Helper()
	screen := askingtest.New(t)
	user, err := os.OpenFile(screen.Device.Name(), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	k := &taken{screen: screen, plain: new(bytes.Buffer), settled: make(chan time.Time)}
	if k.Terminal, err = open(user, "k7q2", k.plain); err != nil {
		t.Fatal(err)
	}
	k.Terminal.after = func(time.Duration) <-chan time.Time { return k.settled }
	t.Cleanup(k.Close)
	return k
}

type answered struct {
	answer Answer
	err    error
}

// put puts a question and waits until it stands.
func (k *taken) put(ctx context.Context) <-chan answered {
	out := make(chan answered, 1)
	go func() {
		a, err := k.Prompt(ctx, Question{Program: "curl", Destination: "a.example.com:443", Reason: "No rule.", Warnings: []string{"it is private"}})
		out <- answered{a, err}
	}()
	k.screen.Await("sluice [k7q2]: curl wants to reach a.example.com:443: No rule.\r\nsluice [k7q2]: WARNING: it is private\r\n")
	return out
}

const invitation = "sluice [k7q2]: type once, always or no, and Enter: "

func (k *taken) invited() {
	k.settled <- time.Time{}
	k.screen.Await(invitation)
}

func TestTheTerminalComesBackAsItWas(t *testing.T) {
	for name, end := range map[string]func(k *taken){
		"closed": func(k *taken) { k.Close(); k.Close() },
		"a panic": func(k *taken) {
			defer func() { recover() }()
			k.guarded(func() { panic("something is wrong") })
		},
	} {
		k := take(t)
		raw := k.screen.Settings()
		end(k)
		if now := k.screen.Settings(); now != *settingsBefore(t, k) || now == raw {
			t.Errorf("%s: the settings are %+v, and while it was taken over %+v", name, now, raw)
		}
		k.Close()
		if k.Write([]byte("afterwards")); k.plain.String() != "afterwards" {
			t.Errorf("%s: words afterwards are %q", name, k.plain)
		}
	}
}

// settingsBefore are those that the command's terminal was made with.
func settingsBefore(t *testing.T, k *taken) *unix.Termios {
	t.Helper()
	settings := askingtest.New(t).Settings() // of a new one, as the user's was
	return &settings
}

// A question that the command prints looks otherwise and takes its answer to the command;
// what it prints while ours stands is shown behind it; and no answer of the terminal to
// what it asked there, nor what it types to itself, is one of the user.
func TestWhileAQuestionStandsTheCommandIsNeitherSeenNorHeard(t *testing.T) {
	k := take(t)
	fake := "sluice [aaaa]: type once, always or no, and Enter: "
	k.Command.WriteString(fake)
	k.screen.Await(fake)
	k.screen.Type("always\r")
	lines := bufio.NewReader(k.Command)
	if got, err := lines.ReadString('\n'); got != "always\n" {
		t.Fatalf("the command reads %q, %v", got, err)
	}
	k.Command.WriteString("\x1b[6n") // where is the cursor?
	k.screen.Await("\x1b[6n")
	out := k.put(t.Context())
	k.invited()
	k.Command.WriteString("behind it\n")
	injected := ""
	for _, b := range []byte("once\n") {
		if pty.Control(k.Command, func(fd int) error { return unix.IoctlSetPointerInt(fd, unix.TIOCSTI, int(b)) }) == nil {
			injected += string(b) // newer kernels refuse it
		}
	}
	k.screen.Type("\x1b[24;80R\r")
	k.screen.Await(invitation)
	k.screen.Type("onx\x7fce\r")
	if got := <-out; got.answer != Once || got.err != nil {
		t.Errorf("the answer is %+v", got)
	}
	if between := k.screen.Await("behind it"); !strings.Contains(between, "onx\b \bce\r\n") {
		t.Errorf("before the command's output comes %q", between)
	}
	k.screen.Type("hello\r")
	if injected != "" { // to itself
		if got, err := lines.ReadString('\n'); got != injected {
			t.Errorf("the command reads %q, %v", got, err)
		}
	}
	if got, err := lines.ReadString('\n'); got != "hello\n" {
		t.Errorf("the command reads %q, %v", got, err)
	}
}

// A question comes after all that was written before it: where nobody has copied it yet, and
// where the copier and the question come for the screen at once.
func TestAQuestionComesAfterWhatTheCommandWroteBefore(t *testing.T) {
	const lines = 400 // fewer bytes than a terminal holds
	for name, open := range map[string]func(*os.File, string, io.Writer) (*Terminal, error){"nobody copies": takeOver, "it is copied": open} {
		k := takeBy(t, open)
		k.Terminal.screen.Lock()
		if _, err := k.Command.WriteString(strings.Repeat("before it\n", lines)); err != nil {
			t.Fatal(err)
		}
		k.Terminal.screen.Unlock()
		ctx, cancel := context.WithCancel(t.Context())
		out := make(chan answered, 1)
		go func() {
			a, err := k.Prompt(ctx, Question{Program: "curl", Destination: "a.example.com:443", Reason: "No rule."})
			out <- answered{a, err}
		}()
		before := k.screen.Await("curl wants to reach a.example.com:443: No rule.\r\n")
		if got := strings.Count(before, "before it\r\n"); got != lines {
			t.Errorf("%s: before the question stand %d of %d lines", name, got, lines)
		}
		cancel()
		if got := <-out; got.answer != No || got.err == nil {
			t.Errorf("%s: %+v", name, got)
		}
		if name == "nobody copies" {
			close(k.drained) // whom Close waits for
		}
		k.Close()
	}
}

// Who was typing when a question came has not answered it.
func TestWhatWasTypedBeforeTheInvitationIsNoAnswer(t *testing.T) {
	k := take(t)
	out := k.put(t.Context())
	k.screen.Type("always\r")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		k.input.Lock()
		came := len(k.answer.done) == 1
		k.input.Unlock()
		if came {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it was not typed")
		}
	}
	k.invited()
	k.screen.Type("maybe\r")
	k.screen.Await(invitation)
	k.screen.Type("NO\r")
	if got := <-out; got.answer != No || got.err != nil {
		t.Errorf("the answer is %+v", got)
	}
}

func TestAQuestionEndsWithItsTimeAndWithTheCommand(t *testing.T) {
	k := take(t)
	ctx, cancel := context.WithCancel(t.Context())
	out := k.put(ctx)
	k.invited()
	cancel()
	if got := <-out; got.answer != No || got.err == nil {
		t.Errorf("without time: %+v", got)
	}
	k.screen.Await("sluice [k7q2]: no answer, so it is denied\r\n")
	out = k.put(t.Context())
	k.Close()
	if got := <-out; got.answer != No || got.err == nil {
		t.Errorf("without the command: %+v", got)
	}
}

func TestTheCommandsTerminalHasTheUsersSize(t *testing.T) {
	k := take(t)
	k.screen.Size(40, 120)
	k.Resize()
	if size, err := pty.Size(k.Command); size.Row != 40 || size.Col != 120 {
		t.Errorf("it has %+v, %v", size, err)
	}
}

// Nothing of ours waits for a question: connections would.
func TestWordsWaitForTheEndOfAQuestionAndAreBounded(t *testing.T) {
	k := take(t)
	k.Write([]byte("one\ntwo\n"))
	k.screen.Await("one\r\ntwo\r\n")
	out := k.put(t.Context())
	k.invited()
	k.Write([]byte("later\n"))
	k.Write(make([]byte, maxWords))
	k.screen.Type("no\r")
	<-out
	if between := k.screen.Await("later\r\nsluice: 65536 bytes of words came too fast to be shown\r\n"); !strings.Contains(between, "no\r\n") {
		t.Errorf("before the words comes %q", between)
	}
}

func TestACommandThatDoesNotReadHoldsNothingUp(t *testing.T) {
	k := take(t)
	for range 4 * maxKeys {
		k.take(make([]byte, 4<<10)) // it would wait for ever
	}
	if len(k.keys) > maxKeys {
		t.Errorf("%d pieces wait", len(k.keys))
	}
}

func TestNothingIsStoppedForACommandThatHasEnded(t *testing.T) {
	k := take(t)
	k.Close()
	k.Suspend(func() { t.Error("it was stopped") })
}
