package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// group is the cgroup of one sandbox: a folder in each hierarchy in which we may make
// one. Init is born outside of it, is in it while the command's cgroup namespace is made
// and the command starts, and leaves it then, so that limits hold for the command alone.
//
//	sluice-run-…/init            init, from when the command has begun
//	sluice-run-…/limits          the limits, above the root of the command's namespace
//	sluice-run-…/limits/command  the command: the root of its namespace
type group struct {
	limits Resources
	runAs  *Identity // of the command; nil: us

	mu     sync.Mutex
	made   []*folders
	how    string        // cgroupsOwn and the like: how the command has to do with cgroups
	shared []string      // why there is none in a hierarchy, one reason each
	gone   chan struct{} // closed with it

	reached Reached // once it is closed
}

// folders are those of a group in one hierarchy.
type folders struct {
	hierarchy
	top     string
	lock    *os.File // held for as long as we live: see removeStale
	limited []string // controllers that limit here
}

func (f *folders) init() string    { return filepath.Join(f.top, "init") }
func (f *folders) bounds() string  { return filepath.Join(f.top, "limits") }
func (f *folders) command() string { return filepath.Join(f.top, "limits", "command") }

func newGroup(limits Resources, runAs *Identity) *group {
	return &group{limits: limits, runAs: runAs, how: cgroupsRefused, gone: make(chan struct{})}
}

// makeGroup makes one, or nothing.
func makeGroup(limits Resources) (*group, error) {
	g := newGroup(limits, nil)
	if err := g.make(); err != nil {
		return nil, err
	}
	return g, nil
}

// make makes what it can, and fails where a limit cannot be set.
func (g *group) make() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.gone:
		return nil // init has ended already
	default:
	}
	needed := g.limits.controllers()
	all, err := ownHierarchies()
	if err != nil && len(needed) > 0 {
		return &LimitError{needed[0].flag, err.Error()}
	}
	if err != nil {
		g.shared = append(g.shared, err.Error())
		g.decide()
		return nil
	}
	for _, h := range all {
		var here []string
		for _, c := range needed {
			if h.has(c.name) {
				here = append(here, c.name)
			}
		}
		f, err := h.makeFolders(here)
		if err == nil {
			err = f.limit(&g.limits)
		}
		if err != nil {
			if f != nil {
				f.remove()
			}
			g.shared = append(g.shared, err.Error())
			if len(here) > 0 {
				g.remove()
				return &LimitError{flagOf(needed, here[0]), fmt.Sprintf("no cgroup with the controller %s can be made here: %v; %s", here[0], err, delegateRemedy())}
			}
			continue
		}
		g.made = append(g.made, f)
	}
	for _, c := range needed {
		if !g.limitsBy(c.name) {
			g.remove()
			return &LimitError{c.flag, fmt.Sprintf("this machine, or the container around, gives no cgroup controller %s here; %s", c.name, delegateRemedy())}
		}
	}
	g.decide()
	return nil
}

func flagOf(needed []controller, name string) string {
	for _, c := range needed {
		if c.name == name {
			return c.flag
		}
	}
	return ""
}

// delegateRemedy says how to start `sluice run` where it may make cgroups.
func delegateRemedy() string {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return "start it as root, or in a cgroup of yours below one that has the controller in cgroup.subtree_control and no limit of its own (cgroups(7))"
	}
	if os.Geteuid() == 0 {
		return "start it by: systemd-run --scope -p Delegate=yes sluice run …"
	}
	return "start it by: systemd-run --user --scope -p Delegate=yes sluice run …"
}

func (g *group) limitsBy(controller string) bool {
	for _, f := range g.made {
		for _, name := range f.limited {
			if name == controller {
				return true
			}
		}
	}
	return false
}

// enter puts init in. Where the kernel refuses that in a hierarchy, there is no group
// in it; the error is a *LimitError where a limit is lost by that.
func (g *group) enter(init int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	kept := g.made[:0]
	var lost error
	for _, f := range g.made {
		err := writeFile(filepath.Join(f.command(), procsFile), strconv.Itoa(init))
		if err == nil {
			kept = append(kept, f)
			continue
		}
		f.remove()
		g.shared = append(g.shared, err.Error())
		if len(f.limited) > 0 && lost == nil {
			lost = &LimitError{flagOf(g.limits.controllers(), f.limited[0]), fmt.Sprintf("the command cannot be put into its cgroup: %v; %s", err, delegateRemedy())}
		}
	}
	if len(kept) < len(g.made) {
		g.made = kept
		g.decide()
	}
	return lost
}

// spare is how many threads init may start, beyond those that it has, until it has left
// its command's cgroup.
const spare = 8

// admit sets the limit of processes while init is in it.
func (g *group) admit() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.limits.Pids == 0 {
		return nil
	}
	return g.limitPids(func(f *folders) (int, error) {
		text, err := os.ReadFile(filepath.Join(f.bounds(), "pids.current"))
		if err != nil {
			return 0, err
		}
		there, err := strconv.Atoi(strings.TrimSpace(string(text)))
		return g.limits.Pids + there + spare, err
	})
}

// settle takes init out once the command has begun, and sets what is for the command
// alone. What can go wrong does so only where a limit is to be held.
func (g *group) settle(init int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, f := range g.made { // none where the command has ended
		err := writeFile(filepath.Join(f.init(), procsFile), strconv.Itoa(init))
		if errors.Is(err, unix.ESRCH) {
			return nil // it has ended
		}
		if err != nil && len(f.limited) > 0 {
			return err
		}
	}
	if g.limits.Pids != 0 {
		if err := g.limitPids(func(*folders) (int, error) { return g.limits.Pids, nil }); err != nil {
			return err
		}
	}
	for _, f := range g.made {
		if err := f.limitCPUs(g.limits.CPUs); err != nil {
			return err
		}
	}
	return nil
}

// settleAfter is how long a command may run until init leaves its cgroup, where that has
// no limit: it takes the kernel milliseconds, for which a short command would wait.
const settleAfter = 50 * time.Millisecond

func (g *group) settleLater(init int) {
	wait := time.NewTimer(settleAfter)
	defer wait.Stop()
	select {
	case <-g.gone:
	case <-wait.C:
		g.settle(init) // with limits alone it can go wrong
	}
}

func (g *group) limitPids(wanted func(*folders) (int, error)) error {
	for _, f := range g.made {
		if !f.limits("pids") {
			continue
		}
		n, err := wanted(f)
		if err == nil {
			err = f.setBoth("pids.max", strconv.Itoa(min(n, MostPids)))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// endAgain is how often the end of what is inside is tried.
const endAgain = 20 * time.Millisecond

// end ends what is inside once init is ending, until the group is closed. Init's end is
// that of all the others, and waits for it; but a process in a version 1 freezer takes
// no note of that.
func (g *group) end() {
	again := time.NewTicker(endAgain)
	defer again.Stop()
	for {
		select {
		case <-g.gone:
			return
		case <-again.C:
			g.mu.Lock()
			for _, f := range g.made {
				f.kill()
			}
			g.mu.Unlock()
		}
	}
}

// close takes down what was counted and removes the group, whose processes have ended.
func (g *group) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, f := range g.made {
		f.count(&g.reached)
	}
	g.remove()
	close(g.gone)
}

func (g *group) remove() {
	for _, f := range g.made {
		f.remove()
	}
	g.made = nil
}

// share notes why there is no namespace of its own.
func (g *group) share(reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shared, g.how = append(g.shared, reason), cgroupsRefused
}

// sharedBecause says why the command has no cgroup of its own; the first reason is enough.
// Where there is one, the other hierarchies show it nothing that it may write.
func (g *group) sharedBecause() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.how == cgroupsOwn || len(g.shared) == 0 {
		return ""
	}
	return g.shared[0]
}

// How the command has to do with cgroups.
const (
	cgroupsOwn     = "own"     // a namespace of its own, whose root is its own cgroup
	cgroupsShared  = "shared"  // it may make namespaces: nothing that they show can be written
	cgroupsRefused = "refused" // it makes none
)

// decide says which of them holds for what was made. It looks at the cgroups of others, of
// which there may be many: it is done while init starts.
func (g *group) decide() {
	own := make(map[string]bool)
	for _, f := range g.made {
		own[f.controllers] = true
	}
	switch {
	case mayWriteCgroups(g.runAs, own):
		g.how = cgroupsRefused
	case len(g.made) == 0:
		g.how = cgroupsShared
	default:
		g.how = cgroupsOwn
	}
}

func (g *group) namespace() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.how
}
