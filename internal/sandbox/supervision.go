package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/capture/seqpacket"
	"sluice.dev/sluice/internal/sandbox/supervise"
)

// supervision is how the sandbox decides over unix sockets with a path: at each
// connect, or, where that cannot be, by hiding at the start those that are there.
type supervision struct {
	launcher *launcher
	lowered  string        // why the second, as a sentence; "" for the first
	begun    chan struct{} // closed when our parent knows that the command has begun
}

func (s *supervision) full() bool { return s.launcher.listener >= 0 }

// superviseOrHide confines the thread of the command, supervised if that can be.
func superviseOrHide(wanted *setup, root rootRights) (*supervision, error) {
	var missing error
	if wanted.Unsupervised {
		missing = errors.New("it was asked for")
	} else {
		missing = supervise.Available(wanted.OneUser)
	}
	var kept uint64
	if root.files {
		kept = fileCapabilities
	}
	launcher, err := newLauncher(wanted.RunAs, kept, missing == nil, wanted.PivotRoot, wanted.Cgroups)
	if err != nil {
		return nil, err
	}
	switch {
	case errors.Is(launcher.refused, unix.EBUSY):
		missing = errors.New("a sandbox or a seccomp filter around this one decides over connects already, and Linux gives one")
	case launcher.refused != nil:
		missing = fmt.Errorf("seccomp notification: %w", launcher.refused)
	}
	s := &supervision{launcher: launcher, begun: make(chan struct{})}
	if missing != nil {
		s.lowered = fmt.Sprintf("socket files that appear after the start are in reach: they are hidden once, by name, and not decided over at connect (%v)", missing)
	}
	return s, nil
}

// answersLate says, where it is so, that a connect succeeds before its outcome is known.
func answersLate(network *capture.Namespace) []string {
	if network.WithoutAsker == nil {
		return nil
	}
	return []string{fmt.Sprintf("connects succeed before the proxy has reached their destination (%v)", network.WithoutAsker)}
}

// start begins to decide over connects.
func (s *supervision) start(wanted *setup, named []namedSocket, control *net.UnixConn, asker *capture.Asker) error {
	if !s.full() {
		closeNamed(named)
		return nil
	}
	var once sync.Once
	config := supervise.Config{
		Listener: s.launcher.listener, OneUser: wanted.OneUser, Asker: asker,
		FilterRefused: func() {
			once.Do(func() {
				<-s.begun
				seqpacket.Send(control, note{FilterRefused: true}) // an error says that it is gone
			})
		},
		Fail: func(err error) {
			fmt.Fprintln(os.Stderr, "sluice: the sandbox ends:", err)
			os.Exit(exitKilled) // PID 1 ends: the kernel kills the rest
		},
	}
	for _, socket := range named {
		config.Allowed = append(config.Allowed, socket.file)
	}
	_, err := supervise.Start(config)
	return err
}
