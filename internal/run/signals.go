package run

import (
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/sandbox"
)

// forwarded are the signals that the command gets in our place. Those of a
// terminal reach it by themselves: see sandbox.Signal.
var forwarded = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
	syscall.SIGWINCH, syscall.SIGCONT,
}

// fatal are those of them that end a program of Go which does not ask for them.
var fatal = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}

// signals are those that we get. Until the command is to have them they end us, as they would
// by themselves, but not before nothing is left of a sandbox that begins: its cgroup would stay.
type signals struct {
	received chan os.Signal
	handed   chan struct{} // closed when the command is to have them

	mu    sync.Mutex
	begun *sandbox.Beginning // nil: there is nothing to leave
	whose whose
}

// whose they are.
type whose int

const (
	forUs whose = iota
	forTheCommand
	endsUs // one of them does
)

// catchSignals begins before a sandbox does, so that none is lost in between and none ends
// us instead of the command. What is ignored, as under nohup, stays so.
func catchSignals() *signals {
	s := &signals{received: make(chan os.Signal, 16), handed: make(chan struct{})}
	for _, one := range forwarded {
		if !signal.Ignored(one) {
			signal.Notify(s.received, one)
		}
	}
	go s.endByOne()
	return s
}

// begin begins a sandbox of which nothing is to be left. It does not return where a signal ends
// us.
func (s *signals) begin(config sandbox.Config) *sandbox.Beginning {
	s.mu.Lock()
	if s.whose == endsUs {
		s.mu.Unlock()
		select {} // the signal is on its way
	}
	defer s.mu.Unlock()
	s.begun = sandbox.Begin(config)
	return s.begun
}

// handOver returns where those come that are the command's; none do where one ends us.
func (s *signals) handOver() <-chan os.Signal {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.whose == endsUs {
		return nil
	}
	s.whose = forTheCommand
	close(s.handed)
	return s.received
}

// stop is called last, once. It does not return where a signal ends us.
func (s *signals) stop() {
	signal.Stop(s.received)
	s.mu.Lock()
	before := s.whose
	if s.whose == forUs {
		s.whose = forTheCommand
		close(s.handed)
	}
	s.mu.Unlock()
	if before == endsUs {
		select {}
	}
}

// endByOne ends this process by the first signal that is to, unless they are handed over.
func (s *signals) endByOne() {
	for {
		select {
		case <-s.handed:
			return
		case one := <-s.received:
			if !slices.Contains(fatal, one) {
				continue
			}
			s.mu.Lock()
			if s.whose == forTheCommand {
				s.mu.Unlock()
				s.received <- one // it was taken beside that
				return
			}
			s.whose = endsUs
			begun := s.begun
			s.mu.Unlock()
			signal.Reset(forwarded...) // a second one ends us at once
			if begun != nil {
				begun.End()
			}
			unix.Kill(unix.Getpid(), one.(syscall.Signal))
			return
		}
	}
}

// stopToo stops this process as its command was, so that the shell around takes
// the terminal back; it returns when the shell goes on with the job. Where there is
// no such shell the kernel does not let SIGTSTP stop us for good.
// This thread is stopped before it goes on: the signal is its own.
func stopToo() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGTSTP)
}

// passOn hands a signal to the command.
func passOn(box *sandbox.Sandbox, received os.Signal) {
	if number, ok := received.(syscall.Signal); ok {
		box.Signal(number) // an error says that it ends
	}
}
