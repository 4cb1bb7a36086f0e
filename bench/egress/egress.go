// Package egress measures what one request on its way out costs the proxy that
// decides about it: Sluice beside HAProxy, doing equal work, in rounds that
// alternate. All of it runs in a network namespace of its own, where names have
// the synthetic addresses that a workload would dial. It never reaches the
// machine's network.
package egress

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/bench/process"
	"sluice.dev/sluice/bench/report"
)

// Options say how much is measured.
type Options struct {
	Rounds   int           `json:"rounds"`
	Duration time.Duration `json:"duration"` // of one measurement
	Conns    []int         `json:"conns"`
	Profile  string        `json:"profile,omitempty"` // folder for CPU profiles of Sluice
	// Before, where not empty, is the bench of another build of Sluice: that is measured too.
	Before  string `json:"before,omitempty"`
	Through bool   `json:"through,omitempty"` // TLS that is passed on, in place of HTTP
	// Dir is where what runs keeps its files; Run makes and removes it.
	Dir string `json:"dir"`
}

// Name and Title are the section's.
const (
	Name  = "egress"
	Title = "Egress: HTTP/1.1, keep-alive, answers of 1 KB"
)

// The roles of sub-processes.
const (
	RoleInside   = "egress-inside"
	RoleUpstream = "egress-upstream"
	RoleSluice   = "egress-sluice"
	RoleLoad     = "egress-load"
	RolePull     = "egress-pull"
)

// section is the empty section of what is measured.
func (o *Options) section() report.Section {
	if o.Through {
		return report.Section{Name: NameThrough, Title: TitleThrough}
	}
	return report.Section{Name: Name, Title: Title}
}

// message is what the process in the namespace says, a line each.
type message struct {
	Progress string          `json:"progress,omitempty"`
	Section  *report.Section `json:"section,omitempty"`
	Error    string          `json:"error,omitempty"`
}

// Run measures. self is our own program, which takes the roles.
func Run(ctx context.Context, self string, o Options, progress report.Progress) (report.Section, error) {
	section := o.section()
	if _, _, err := process.CPUs(); err != nil {
		section.Skipped = err.Error()
		return section, nil
	}
	var err error
	if o.Dir, err = os.MkdirTemp("", "bench-egress-"); err != nil {
		return section, err
	}
	defer os.RemoveAll(o.Dir) // out here: what is inside may be killed
	inside, err := process.Start(ctx, process.Config{
		Name: "the benchmark's namespace", Argv: []string{self, RoleInside}, CPU: process.AnyCPU, Attributes: namespace(),
	})
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
		section.Skipped = "no network namespace can be made here (" + err.Error() + "); run it as root or allow user namespaces"
		return section, nil
	}
	if err != nil {
		return section, err
	}
	defer inside.Stop()
	if err := inside.Send(o); err != nil {
		return section, err
	}
	for {
		var m message
		if err := inside.Receive(o.Duration+time.Minute, &m); err != nil {
			return section, err
		}
		switch {
		case m.Error != "":
			return section, errors.New(m.Error)
		case m.Section != nil:
			return *m.Section, nil
		}
		progress.Say("%s", m.Progress)
	}
}

// namespace asks for a network of its own; as an ordinary user in a user
// namespace, with the capabilities to set it up.
func namespace() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		a.Cloneflags |= unix.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
		a.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE}
	}
	return a
}

func nameOf(conns int) string { return fmt.Sprintf("c=%d", conns) }
