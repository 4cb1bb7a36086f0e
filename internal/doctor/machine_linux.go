package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/paths"
	"sluice.dev/sluice/internal/proxy/resolve"
	"sluice.dev/sluice/internal/sandbox"
)

// Machine is what the kernel gives.
type Machine = sandbox.Machine

func (r *Report) examineMachine(ctx context.Context) {
	r.Server.Proxy = proxyListens(filepath.Join(paths.Runtime(""), paths.AttachSocket))
	r.Resolver = examineResolver()
	var err error
	if r.Machine, err = sandbox.Examine(); err != nil {
		r.Sandbox.Problem = err.Error()
		return
	}
	for _, folder := range sandbox.OwnCgroups() {
		r.hide = append(r.hide, hidden{folder, "the cgroup"})
	}
	ctx, cancel := context.WithTimeout(ctx, sandboxTime)
	defer cancel()
	r.TransparentProxy = "not tried: the sandbox failed before"
	held, err := sandbox.Try(ctx)
	if err != nil {
		r.Sandbox.Problem = err.Error()
		var unavailable *sandbox.UnavailableError
		if errors.As(err, &unavailable) {
			r.Sandbox.Reason = string(unavailable.Reason)
			r.Todo = append(r.Todo, unavailable.Remedy())
			if unavailable.Reason == sandbox.NoTransparent {
				r.TransparentProxy = "missing"
			}
		}
		return
	}
	r.TransparentProxy = "transparent proxying works"
	s := &r.Sandbox
	s.Available, s.Level, s.Text = true, held.Level, held.Text
	s.Lowered = append(s.Lowered, held.Lowered...)
	for _, note := range held.Notes {
		if !slices.Contains(held.Lowered, note) {
			s.Notes = append(s.Notes, note)
		}
	}
	r.Todo = append(r.Todo, r.Machine.More()...)
}

func examineResolver() *Resolver {
	servers, err := resolve.SystemServers()
	if err != nil {
		return &Resolver{Servers: []string{}, Problem: err.Error()}
	}
	r := &Resolver{Servers: []string{}}
	for _, server := range servers {
		r.Servers = append(r.Servers, server.Addr().WithZone("").String())
		r.Stub = r.Stub || server.Addr().IsLoopback()
	}
	return r
}

// proxyListens says whether a sluice-proxy listens on a socket. It is asked for by a
// socket of another type, which the kernel refuses: nobody is connected to.
func proxyListens(path string) bool {
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close() // somebody else
	}
	return errors.Is(err, unix.EPROTOTYPE)
}

func (r *Report) writeMachine(line func(what, format string, arguments ...any)) {
	m := r.Machine
	if m == nil {
		return
	}
	line("kernel", "%s", m.Kernel)
	can, cannot := []string{}, []string{}
	for _, n := range m.Namespaces {
		if n.Error == "" {
			can = append(can, n.Kind)
		} else {
			cannot = append(cannot, fmt.Sprintf("%s (%s)", n.Kind, n.Error))
		}
	}
	text := "none"
	if len(can) > 0 {
		text = strings.Join(can, ", ")
	}
	if len(cannot) > 0 {
		text += "; not " + strings.Join(cannot, ", ")
	}
	line("namespaces", "%s", text)
	rights := "not those that a sandbox needs: it is made in a user namespace"
	if m.Privileged {
		rights = "those that a sandbox needs: it is made without a user namespace"
	}
	line("capabilities", "%s", rights)
	landlock := "none"
	if m.Landlock > 0 {
		landlock = fmt.Sprintf("ABI %d", m.Landlock)
	}
	line("Landlock", "%s", landlock)
	line("seccomp", "%s", map[bool]string{true: "filters may notify", false: "filters cannot notify"}[m.Notification])
	line("nftables", "%s", r.TransparentProxy)
	line("cgroups", "%s", m.Cgroups)
	for _, limit := range m.Limits {
		line(limit.Flag, "%s", cmp.Or(limit.Error, "can be set"))
	}
	restricted := "does not restrict user namespaces"
	if slices.Contains(m.Settings, sandbox.Setting{Name: "kernel.apparmor_restrict_unprivileged_userns", Value: "1"}) {
		restricted = "restricts user namespaces of programs without a profile that has userns"
	}
	line("AppArmor", "%s", restricted)
	for _, s := range m.Settings {
		line("setting", "%s = %s", s.Name, s.Value)
	}
}
