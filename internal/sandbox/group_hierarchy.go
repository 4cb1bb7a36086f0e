package sandbox

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// hierarchy is a tree of cgroups, and the one of them in which we are.
type hierarchy struct {
	controllers string // of version 1, as in /proc/self/cgroup; "" is version 2
	mount, own  string // where it is mounted, and the folder of our cgroup
}

const (
	procsFile   = "cgroup.procs"
	subtreeFile = "cgroup.subtree_control"
	groupPrefix = "sluice-run-"
)

// ownHierarchies returns those that the machine has. One that is mounted nowhere here
// has no folder.
func ownHierarchies() (all []hierarchy, err error) {
	list, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	mounts, err := readMounted()
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(list)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			return nil, fmt.Errorf("/proc/self/cgroup: %q is not a cgroup", line)
		}
		h := hierarchy{controllers: fields[1]}
		h.mount, h.own, _ = cgroupFolder(mounts, fields[1], fields[2])
		all = append(all, h)
	}
	if len(all) == 0 {
		return nil, errors.New("the kernel has no cgroups")
	}
	return all, nil
}

func (h *hierarchy) name() string {
	if h.controllers == "" {
		return "version 2"
	}
	return h.controllers
}

// has says whether a controller is of this hierarchy. Those of version 2 are those
// that no other has, as far as its root gives them.
func (h *hierarchy) has(controller string) bool {
	if h.controllers != "" {
		return slices.Contains(strings.Split(h.controllers, ","), controller)
	}
	return h.own != "" && slices.Contains(words(filepath.Join(h.mount, "cgroup.controllers")), controller)
}

// makeFolders makes a group below our own cgroup. In version 2 a cgroup with processes
// hands no controller down, nor does a threaded one have ordinary ones below it: then it
// is made beside ours, or further up, as long as no limit is left behind by that.
// Where it fails it leaves nothing.
func (h *hierarchy) makeFolders(controllers []string) (*folders, error) {
	if h.own == "" {
		return nil, fmt.Errorf("the cgroups of %s are not mounted", h.name())
	}
	var first error
	for parent := h.own; ; parent = filepath.Dir(parent) {
		f, err := h.makeBelow(parent, controllers)
		if err == nil {
			return f, nil
		}
		if first == nil {
			first = err
		}
		if h.controllers != "" || parent == h.mount || !IsBelow(parent, h.mount) {
			return nil, first
		}
		if limit := limitOf(parent); limit != "" {
			return nil, fmt.Errorf("%w, and one beside it would not be under its own limit, %s", first, limit)
		}
	}
}

// limitOf names the file by which a cgroup is limited; "" is none.
func limitOf(cgroup string) string {
	paths, _ := filepath.Glob(filepath.Join(escapeGlob(cgroup), "*.max")) // the pattern is ours
	for _, name := range []string{"memory.high", "cpuset.cpus", "cpuset.mems"} {
		paths = append(paths, filepath.Join(cgroup, name))
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if set := strings.TrimSpace(string(text)); err != nil || set != "" && !strings.HasPrefix(set, "max") {
			return path
		}
	}
	return ""
}

func (h *hierarchy) makeBelow(parent string, controllers []string) (f *folders, err error) {
	removeStale(parent, staleAfter)
	if len(controllers) > 0 && h.controllers == "" {
		if err := handDown(parent, controllers, parent == h.own || !hasSystemd()); err != nil {
			return nil, err
		}
	}
	top := filepath.Join(parent, groupPrefix+strconv.Itoa(os.Getpid())+"-"+strings.ToLower(rand.Text()[:8]))
	if err := os.Mkdir(top, 0o755); err != nil {
		return nil, err
	}
	f = &folders{hierarchy: *h, top: top, limited: controllers}
	defer func() {
		if err != nil {
			f.remove()
		}
	}()
	if f.lock, err = os.Open(top); err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("lock %s: %w", top, err)
	}
	for _, folder := range []string{f.init(), f.bounds(), f.command()} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			return nil, err
		}
	}
	if h.controllers == "" {
		return f, f.setUpUnified(controllers)
	}
	return f, f.fillCpuset()
}

func hasSystemd() bool {
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}

// handDown sees to it that a cgroup gives controllers to those below it. Those of others
// are not changed where systemd manages them: it would undo it.
func handDown(cgroup string, controllers []string, change bool) error {
	given := words(filepath.Join(cgroup, subtreeFile))
	for _, controller := range controllers {
		if slices.Contains(given, controller) {
			continue
		}
		if !change {
			return fmt.Errorf("%s does not hand %s down", cgroup, controller)
		}
		busy := fmt.Errorf("%s has processes of its own and cannot hand %s down", cgroup, controller)
		if _, err := os.Lstat(filepath.Join(cgroup, "cgroup.type")); err == nil && len(words(filepath.Join(cgroup, procsFile))) > 0 {
			// Asked for pids or cpu, the kernel would make it a threaded one, in which nobody
			// can make an ordinary cgroup any more. The root alone, without a type, may.
			return busy
		}
		err := writeFile(filepath.Join(cgroup, subtreeFile), "+"+controller)
		if errors.Is(err, unix.EBUSY) {
			return busy
		}
		if errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("%s does not have the controller %s", cgroup, controller)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Bounds of what the command may make below its own cgroup, where it may at all: it is
// for us to remove.
const (
	mostDescendants = 1024
	mostDepth       = 32
)

func (f *folders) setUpUnified(controllers []string) error {
	if kind := words(filepath.Join(f.top, "cgroup.type")); !slices.Equal(kind, []string{"domain"}) {
		return fmt.Errorf("%s is threaded: it has no ordinary cgroups below it", filepath.Dir(f.top))
	}
	for _, folder := range []string{f.top, f.bounds()} {
		if err := handDown(folder, controllers, true); err != nil {
			return err
		}
	}
	// Before Linux 4.14 there are none.
	writeFile(filepath.Join(f.bounds(), "cgroup.max.descendants"), strconv.Itoa(mostDescendants))
	writeFile(filepath.Join(f.bounds(), "cgroup.max.depth"), strconv.Itoa(mostDepth))
	return nil
}

// fillCpuset gives the folders the processors and memory of their parent: version 1
// takes no process before.
func (f *folders) fillCpuset() error {
	if !f.has("cpuset") {
		return nil
	}
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(f.top), name))
		if err != nil {
			return err
		}
		for _, folder := range []string{f.top, f.init(), f.bounds(), f.command()} {
			if err := writeFile(filepath.Join(folder, name), strings.TrimSpace(string(text))); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *folders) limits(controller string) bool { return slices.Contains(f.limited, controller) }

// limit sets what holds from the beginning.
func (f *folders) limit(limits *Resources) error {
	if !f.limits("memory") {
		return nil
	}
	bytes := strconv.FormatInt(limits.Memory, 10)
	if f.controllers == "" {
		return errors.Join(f.setBoth("memory.max", bytes), f.setBothIfThere("memory.swap.max", "0"))
	}
	return errors.Join(f.setBoth("memory.limit_in_bytes", bytes), f.setBothIfThere("memory.memsw.limit_in_bytes", bytes))
}

// limitCPUs sets how much of each tenth of a second everything inside may run.
func (f *folders) limitCPUs(cpus float64) error {
	if !f.limits("cpu") {
		return nil
	}
	const period = 100_000 // microseconds
	quota := strconv.Itoa(int(cpus * period))
	if f.controllers == "" {
		return f.setBoth("cpu.max", quota+" "+strconv.Itoa(period))
	}
	return errors.Join(f.setBoth("cpu.cfs_period_us", strconv.Itoa(period)), f.setBoth("cpu.cfs_quota_us", quota))
}

// setBoth sets it above the command's reach, where it holds, and in its own cgroup,
// where programs look for it.
func (f *folders) setBoth(name, value string) error {
	for _, folder := range []string{f.bounds(), f.command()} {
		if err := writeFile(filepath.Join(folder, name), value); err != nil {
			return err
		}
	}
	return nil
}

func (f *folders) setBothIfThere(name, value string) error {
	if err := f.setBoth(name, value); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// count adds what the kernel counted.
func (f *folders) count(reached *Reached) {
	most := func(file, key string) (n uint64) {
		for _, folder := range []string{f.bounds(), f.command()} { // it depends on the kernel which
			n = max(n, counter(filepath.Join(folder, file), key))
		}
		return n
	}
	if f.limits("memory") {
		file := "memory.events"
		if f.controllers != "" {
			file = "memory.oom_control"
		}
		reached.MemoryKills += most(file, "oom_kill")
	}
	if f.limits("pids") {
		reached.ForksRefused += most("pids.events", "max")
	}
}

// counter reads one line of a file of "key number" lines; 0 where it is not there.
func counter(path, key string) uint64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if name, number, _ := strings.Cut(strings.TrimSpace(line), " "); name == key {
			n, _ := strconv.ParseUint(number, 10, 64)
			return n
		}
	}
	return 0
}

// words reads a file of cgroups; none where it cannot be read.
func words(path string) []string {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return strings.Fields(string(text))
}

// writeFile writes to a file that is there; the kernel takes it at once or not at all.
func writeFile(path, text string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.WriteString(text)
	return err
}
