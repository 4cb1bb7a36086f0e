package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/test/kernels/modules"
)

// modprobe is what the kernel calls where it wants a module: modprobe -q -- NAME.
func modprobe(arguments []string) error {
	index, err := readIndex()
	if err != nil {
		return err
	}
	for _, name := range arguments {
		if strings.HasPrefix(name, "-") {
			continue
		}
		found := index.Find(name)
		if len(found) == 0 {
			return fmt.Errorf("module %s not found", name)
		}
		if err := load(index, found...); err != nil {
			return err
		}
	}
	return nil
}

func moduleFolder() string { return "/lib/modules/" + release() }

func release() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "?"
	}
	return unix.ByteSliceToString(name.Release[:])
}

func readIndex() (modules.Index, error) {
	text, err := os.ReadFile(moduleFolder() + "/index.json")
	if err != nil {
		return nil, err
	}
	var index modules.Index
	return index, json.Unmarshal(text, &index)
}

// load loads modules and what they need.
func load(index modules.Index, names ...string) error {
	order, err := index.Order(names...)
	if err != nil {
		return err
	}
	for _, name := range order {
		file, err := os.Open(moduleFolder() + "/" + index[name].File)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(file.Fd()), "", 0)
		file.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load module %s: %w", name, err)
		}
	}
	return nil
}

// loaded are the names of the loaded modules.
func loaded() []string {
	text, err := os.ReadFile("/proc/modules")
	if err != nil {
		return nil
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, " ")
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// unload removes every module that is not kept, each once nothing needs it: a namespace
// that has just ended holds its own for a while.
func unload(ctx context.Context, keep []string) error {
	for {
		var left []string
		for _, name := range loaded() {
			if !slices.Contains(keep, name) && unix.DeleteModule(name, unix.O_NONBLOCK) != nil {
				left = append(left, name)
			}
		}
		if len(left) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s cannot be unloaded: %w", strings.Join(left, ", "), ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// provideModprobe gives the kernel what it calls for a module.
func provideModprobe() error {
	if err := os.Symlink("/bin/guest", "/sbin/modprobe"); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}
