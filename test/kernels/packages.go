package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// packages are those of one processor, unpacked.
type packages struct {
	release string // of the kernel, as uname says it
	kernel  string // file to boot
	modules string // folder of its modules
	busybox string // static: a shell and its tools
}

// kernelName is the pattern of the packages that are taken, and in it what one is
// newer by. Debian 12 has Linux 6.1 for as long as it lives.
func kernelName(arch string) *regexp.Regexp {
	return regexp.MustCompile(`^linux-image-6\.1\.0-([0-9]+)-cloud-` + arch + `$`)
}

const toolsName = "busybox-static"

// fetch gets the packages of a processor by the machine's own apt, which verifies them,
// with lists and folders apart from the machine's. Those that are kept are taken unless
// an update was asked for.
func fetch(ctx context.Context, t target, cache string, update bool) (*packages, error) {
	cache, err := filepath.Abs(filepath.Join(cache, t.arch))
	if err != nil {
		return nil, err
	}
	root := filepath.Join(cache, "root")
	if p, err := unpacked(root, t); err == nil && !update {
		return p, nil
	}
	for _, needed := range []string{"apt-get", "apt-cache", "dpkg-deb"} {
		if _, err := exec.LookPath(needed); err != nil {
			return nil, &missingError{"the kernel's packages come by apt, and this machine lacks it: " + err.Error()}
		}
	}
	a := apt{folder: filepath.Join(cache, "apt"), arch: t.arch}
	if err := a.prepare(); err != nil {
		return nil, err
	}
	name, err := a.newest(ctx, kernelName(t.arch))
	if err != nil {
		return nil, err
	}
	files, err := a.download(ctx, name, toolsName)
	if err != nil {
		return nil, err
	}
	if err := os.RemoveAll(root); err != nil {
		return nil, err
	}
	for _, file := range files {
		if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", file, root).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("unpack %s: %w\n%s", file, err, out)
		}
	}
	return unpacked(root, t)
}

// unpacked finds in root what is needed of the packages.
func unpacked(root string, t target) (*packages, error) {
	releases, err := filepath.Glob(filepath.Join(root, "lib/modules/6.1.0-*"))
	if err != nil || len(releases) != 1 {
		return nil, fmt.Errorf("%s holds %d kernels, not one", root, len(releases))
	}
	p := &packages{
		release: filepath.Base(releases[0]), modules: filepath.Join(releases[0], "kernel"),
		busybox: filepath.Join(root, "bin/busybox"),
	}
	p.kernel = filepath.Join(root, "boot/vmlinuz-"+p.release)
	for _, file := range []string{p.kernel, p.modules, p.busybox} {
		if _, err := os.Stat(file); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// apt is the machine's apt with a state of its own: the processor that it thinks it is
// on is another one, and nothing is ever installed.
type apt struct{ folder, arch string }

func (a apt) prepare() error {
	for _, folder := range []string{"lists/partial", "archives/partial", "packages"} {
		if err := os.MkdirAll(filepath.Join(a.folder, folder), 0o755); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(a.folder, "status"), nil, 0o644)
}

func (a apt) run(ctx context.Context, program string, arguments ...string) (string, error) {
	var options []string
	for _, option := range []string{
		"Dir::State=" + a.folder, "Dir::State::lists=" + a.folder + "/lists", "Dir::State::status=" + a.folder + "/status",
		"Dir::Cache=" + a.folder, "Dir::Cache::archives=" + a.folder + "/archives",
		"APT::Architecture=" + a.arch, "APT::Architectures=" + a.arch, "APT::Sandbox::User=" + userName(),
	} {
		options = append(options, "-o", option)
	}
	command := exec.CommandContext(ctx, program, append(options, arguments...)...)
	command.Dir = filepath.Join(a.folder, "packages")
	out, err := command.CombinedOutput()
	if err != nil {
		return "", &missingError{fmt.Sprintf("%s %s for %s: %v\n%s", program, strings.Join(arguments, " "), a.arch, err, out)}
	}
	return string(out), nil
}

// userName keeps apt from changing to a user who cannot write into our folder.
func userName() string {
	if os.Geteuid() == 0 {
		return "root"
	}
	return ""
}

// newest is the newest package whose name has the pattern.
func (a apt) newest(ctx context.Context, pattern *regexp.Regexp) (string, error) {
	if _, err := a.run(ctx, "apt-get", "update", "-q"); err != nil {
		return "", err
	}
	all, err := a.run(ctx, "apt-cache", "pkgnames", "linux-image-6.1.0-")
	if err != nil {
		return "", err
	}
	name := newestOf(strings.Fields(all), pattern)
	if name == "" {
		return "", &missingError{fmt.Sprintf("the machine's apt offers no package %s: its sources are not those of Debian 12", pattern)}
	}
	return name, nil
}

func newestOf(all []string, pattern *regexp.Regexp) string {
	best, bestNumber := "", -1
	for _, name := range all {
		if found := pattern.FindStringSubmatch(name); found != nil {
			if number, err := strconv.Atoi(found[1]); err == nil && number > bestNumber {
				best, bestNumber = name, number
			}
		}
	}
	return best
}

// download returns the files of the packages, in the order of their names.
func (a apt) download(ctx context.Context, names ...string) ([]string, error) {
	if _, err := a.run(ctx, "apt-get", append([]string{"download", "-q"}, names...)...); err != nil {
		return nil, err
	}
	var files []string
	for _, name := range names {
		found, err := filepath.Glob(filepath.Join(a.folder, "packages", name+"_*_"+a.arch+".deb"))
		if err != nil || len(found) == 0 {
			return nil, fmt.Errorf("apt-get download %s left no file", name)
		}
		files = append(files, slices.MaxFunc(found, byTime))
	}
	return files, nil
}

// byTime compares files by when they were written: one of an older version may be kept.
func byTime(a, b string) int {
	one, errOne := os.Stat(a)
	other, errOther := os.Stat(b)
	if errOne != nil || errOther != nil {
		return strings.Compare(a, b)
	}
	return one.ModTime().Compare(other.ModTime())
}
