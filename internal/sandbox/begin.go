package sandbox

import (
	"context"
	"fmt"
	"os"

	"sluice.dev/sluice/internal/capture/seqpacket"
)

// Late is what of a Config may be found out while init starts, which takes milliseconds.
type Late struct {
	Mask  []string
	Files Files
	Pipes []Pipe
}

// Beginning is an init that starts, and waits to be told what to set up. SetUp or Drop
// ends it.
type Beginning struct {
	config  Config
	sandbox *Sandbox
	started chan struct{} // closed once init and its group are there, or failed by failed
	failed  error
	over    bool // it was set up or dropped
}

// New makes the namespaces and starts init in them; the command waits for Start.
// The context bounds the set-up only. An *UnavailableError says why this machine
// does not give a sandbox, and what to do.
func New(ctx context.Context, config Config) (*Sandbox, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	return Begin(config).SetUp(ctx, Late{config.Mask, config.Files, config.Pipes})
}

// Begin is the first half of New: it starts init, and does not wait for it. What of config
// is Late is not looked at. What is wrong SetUp says.
func Begin(config Config) *Beginning {
	b := &Beginning{config: config, started: make(chan struct{})}
	b.sandbox = &Sandbox{ended: make(chan struct{}), stopped: make(chan struct{}, 1), refused: make(chan struct{}, 1), uid: os.Geteuid()}
	b.sandbox.opened.changed, b.sandbox.group = make(chan struct{}, 1), newGroup(config.Resources, config.RunAs)
	if config.RunAs != nil {
		b.sandbox.uid = config.RunAs.UID
	}
	go func() {
		defer close(b.started)
		b.failed = b.start()
	}()
	return b
}

// start starts init and puts it into its group; after an error nothing is left.
func (b *Beginning) start() error {
	s := b.sandbox
	if len(b.config.Command) == 0 {
		return errNoCommand // without one init would not be one
	}
	control, theirs, err := seqpacket.Pair()
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	s.control = control
	made := make(chan error, 1)
	go func() { made <- s.group.make() }()
	err = s.startInit(&b.config, theirs)
	theirs.Close()
	failed := <-made
	if err != nil {
		s.group.close()
		control.Close()
		if failed != nil {
			return failed
		}
		return explain(err, "", b.config.userNamespace())
	}
	if failed == nil {
		failed = s.group.enter(s.process.Pid) // while it starts
	}
	if failed != nil {
		s.Kill()
		s.Wait()
	}
	return failed
}

// SetUp is the second half of New.
func (b *Beginning) SetUp(ctx context.Context, late Late) (*Sandbox, error) {
	defer b.Drop()
	b.config.Mask, b.config.Files, b.config.Pipes = late.Mask, late.Files, late.Pipes
	if err := b.config.check(); err != nil {
		return nil, err
	}
	b.over = true
	if <-b.started; b.failed != nil {
		return nil, b.failed
	}
	if err := b.sandbox.setUp(ctx, &b.config); err != nil {
		b.sandbox.Kill()
		b.sandbox.Wait()
		return nil, err
	}
	return b.sandbox, nil
}

// Drop ends an init that is not set up, and leaves one that is.
func (b *Beginning) Drop() {
	if b == nil || b.over {
		return
	}
	b.over = true
	b.End()
}

// End ends an init, set up or not, and returns when nothing is left of it. Unlike the rest it
// may be called while another goroutine sets it up.
func (b *Beginning) End() {
	if <-b.started; b.failed == nil {
		b.sandbox.Kill()
		b.sandbox.Wait()
	}
}
