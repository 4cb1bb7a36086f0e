package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

const (
	short = 3 * time.Minute // an emulated machine is some thirty times slower
	long  = 20 * time.Minute
)

// withModprobe is the first row for which the kernel has whom to ask for a module. Before
// it nothing was loaded.
const withModprobe = "modules-asked"

// allRows are the rows in order.
func allRows() []row {
	rows := []row{
		{"boot", "the kernel is Debian's 6.1, with every controller of cgroups", short, boots},
		{"modules-none", "without its modules `sluice run` says what is missing", short, saysWhatIsMissing},
		{"modules-remedy", "what it says to load is enough", short, remedyIsEnough},
		{withModprobe, "with a modprobe the kernel loads by itself what a user's sandbox needs", short, loadsByItself},
	}
	for _, w := range everybody {
		rows = append(rows,
			row{"version-" + w.name, "sluice version works", short, func(ctx context.Context, _ *lab) (string, error) {
				return expect(w.sluice(ctx, "version"))(0, "Version: ")
			}},
			row{"run-allowed-" + w.name, "what a rule allows is reached, over HTTP and TLS", short, allowed(w)},
			row{"run-denied-" + w.name, "what no rule allows is denied, and the command is told", short, denied(w)},
			row{"level-" + w.name, "the level's sentences are those that this kernel is known to lack", short, levelIsKnown(w)},
		)
	}
	return append(append(rows, attackRows()...), testRows()...)
}

// expect takes what a command did and checks its status and what it said.
func expect(r result, err error) func(code int, said ...string) (string, error) {
	return func(code int, said ...string) (string, error) {
		if err != nil {
			return r.String(), err
		}
		if r.code != code {
			return r.String(), fmt.Errorf("exit %d, want %d", r.code, code)
		}
		for _, text := range said {
			if !strings.Contains(r.stdout+r.stderr, text) {
				return r.String(), fmt.Errorf("it does not say %q", text)
			}
		}
		return r.String(), nil
	}
}

func boots(context.Context, *lab) (string, error) {
	outcome := release() + " " + runtime.GOARCH
	controllers, err := os.ReadFile(systemCgroup + "/cgroup.controllers")
	if err != nil {
		return outcome, err
	}
	outcome += ", controllers: " + strings.TrimSpace(string(controllers))
	if !strings.HasPrefix(release(), "6.1.") {
		return outcome, errors.New("it is not a kernel of 6.1")
	}
	for _, controller := range []string{"cpuset", "cpu", "io", "memory", "pids"} {
		if !slices.Contains(strings.Fields(string(controllers)), controller) {
			return outcome, fmt.Errorf("the controller %s is missing", controller)
		}
	}
	return outcome, nil
}

// remedy begins what `sluice run` says to do where the kernel lacks modules.
const remedy = "as root: modprobe -a "

func saysWhatIsMissing(ctx context.Context, _ *lab) (string, error) {
	for _, w := range everybody {
		if outcome, err := expect(w.sluice(ctx, "run", "--", "true"))(125, "the kernel has no nftables with transparent proxying", remedy); err != nil {
			return outcome, fmt.Errorf("%s: %w", w.name, err)
		}
	}
	return "", nil
}

func remedyIsEnough(ctx context.Context, _ *lab) (string, error) {
	r, err := everybody[0].sluice(ctx, "run", "--", "true")
	if err != nil {
		return r.String(), err
	}
	_, list, found := strings.Cut(strings.TrimSpace(r.stderr), remedy)
	if !found {
		return r.String(), errors.New("it names no modules")
	}
	index, err := readIndex()
	if err != nil {
		return "", err
	}
	before := loaded()
	if err := load(index, strings.Fields(list)...); err != nil {
		return r.String(), err
	}
	for _, w := range everybody {
		if outcome, err := expect(w.sluice(ctx, "run", "-v", "--", "true"))(0); err != nil {
			return outcome, fmt.Errorf("%s: %w", w.name, err)
		}
	}
	outcome := "loaded: " + strings.Join(loaded(), " ")
	return outcome, unload(ctx, before)
}

func loadsByItself(ctx context.Context, _ *lab) (string, error) {
	if err := provideModprobe(); err != nil {
		return "", err
	}
	before := loaded()
	w := everybody[1]
	outcome, err := expect(w.sluice(ctx, "run", "-v", "--", "true"))(0)
	var more []string
	for _, name := range loaded() {
		if !slices.Contains(before, name) {
			more = append(more, name)
		}
	}
	if err == nil && len(more) == 0 {
		err = errors.New("nothing was loaded: the kernel had it all")
	}
	return outcome + "\nloaded by itself: " + strings.Join(more, " "), err
}

func allowed(w who) func(context.Context, *lab) (string, error) {
	return func(ctx context.Context, l *lab) (string, error) {
		for _, url := range []string{"http://www.example.com/", "https://www.example.com/"} {
			r, err := l.runInNet(ctx, w, "--allow", "www.example.com:80,443", "--", "/bin/env", "SSL_CERT_FILE="+netCA, "/bin/guest", "get", url)
			if outcome, err := expect(r, err)(0, "200 OK"); err != nil {
				return outcome, fmt.Errorf("%s: %w", url, err)
			}
		}
		return "", nil
	}
}

func denied(w who) func(context.Context, *lab) (string, error) {
	return func(ctx context.Context, l *lab) (string, error) {
		r, err := l.runInNet(ctx, w, "--allow", "www.example.com", "--", "/bin/guest", "get", "http://www.wikipedia.org/")
		if outcome, err := expect(r, err)(0, "403 Forbidden", "sluice: denied www.wikipedia.org:80"); err != nil {
			return outcome, err
		}
		r, err = l.runInNet(ctx, w, "--allow", "www.example.com", "--", "/bin/env", "SSL_CERT_FILE="+netCA, "/bin/guest", "get", "https://www.wikipedia.org/")
		return expect(r, err)(1, "sluice: denied www.wikipedia.org:443")
	}
}
