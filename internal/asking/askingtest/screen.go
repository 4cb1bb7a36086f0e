//go:build linux

// Package askingtest is a terminal with a person at it, for tests: what a program shows
// there is waited for, and then something is typed.
package askingtest

import (
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/asking/pty"
)

// patience bounds every wait; none of them is to last.
const patience = time.Minute

// Screen is a terminal.
type Screen struct {
	Device *os.File // the program's end

	t        testing.TB
	terminal *os.File
	mu       sync.Mutex
	shown    string
	seen     int // of it, by Await
	news     chan struct{}
}

// New makes a terminal whose settings are those of a new one.
func New(t testing.TB) *Screen {
	t.Helper()
	terminal, device, err := pty.Open()
	if err != nil {
		t.Skip(err)
	}
	s := &Screen{Device: device, t: t, terminal: terminal, news: make(chan struct{}, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 4<<10)
		for {
			n, err := terminal.Read(buffer)
			if err != nil {
				return
			}
			s.mu.Lock()
			s.shown += string(buffer[:n])
			s.mu.Unlock()
			select {
			case s.news <- struct{}{}:
			default:
			}
		}
	}()
	t.Cleanup(func() { device.Close(); terminal.Close(); <-done })
	return s
}

// Await waits until text is shown behind what was awaited before, and returns what is
// between them.
func (s *Screen) Await(text string) string {
	s.t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		s.mu.Lock()
		before, _, found := strings.Cut(s.shown[s.seen:], text)
		if found {
			s.seen += len(before) + len(text)
			s.mu.Unlock()
			return before
		}
		rest := s.shown[s.seen:]
		s.mu.Unlock()
		select {
		case <-s.news:
		case <-late.C:
			s.t.Fatalf("the terminal does not show %q, but %q", text, rest)
		}
	}
}

// Shown is all that was shown.
func (s *Screen) Shown() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown
}

// Type types text.
func (s *Screen) Type(text string) {
	s.t.Helper()
	if _, err := s.terminal.WriteString(text); err != nil {
		s.t.Fatal(err)
	}
}

// Size gives the terminal a size, of which its program is told.
func (s *Screen) Size(rows, columns uint16) {
	s.t.Helper()
	if err := pty.SetSize(s.terminal, unix.Winsize{Row: rows, Col: columns}); err != nil {
		s.t.Fatal(err)
	}
}

// Settings are the terminal's.
func (s *Screen) Settings() unix.Termios {
	s.t.Helper()
	var settings *unix.Termios
	if err := pty.Control(s.Device, func(fd int) (err error) {
		settings, err = unix.IoctlGetTermios(fd, unix.TCGETS)
		return err
	}); err != nil {
		s.t.Fatal(err)
	}
	return *settings
}
