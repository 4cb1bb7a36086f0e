package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Memory is what a process holds resident, in bytes.
type Memory struct {
	PSS       int64 // its own pages, and its share of the shared ones
	Anonymous int64 // of it not backed by a file
}

// ReadMemory reads the memory of a process.
func ReadMemory(pid int) (Memory, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return Memory{}, fmt.Errorf("read the memory of process %d: %w", pid, err)
	}
	return parseMemory(string(text))
}

func parseMemory(rollup string) (Memory, error) {
	var m Memory
	found := 0
	for line := range strings.Lines(rollup) {
		name, rest, _ := strings.Cut(line, ":")
		var into *int64
		switch name {
		case "Pss":
			into = &m.PSS
		case "Pss_Anon":
			into = &m.Anonymous
		default:
			continue
		}
		kilobytes, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			return Memory{}, fmt.Errorf("read smaps_rollup: %w", err)
		}
		*into = kilobytes << 10
		found++
	}
	if found != 2 {
		return Memory{}, fmt.Errorf("read smaps_rollup: Pss and Pss_Anon are not both there")
	}
	return m, nil
}

// Children returns the processes that a process started and that live, and
// theirs, nearest first.
func Children(pid int) []int {
	var all []int
	for next := []int{pid}; len(next) > 0; {
		parent := next[0]
		next = next[1:]
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", parent))
		if err != nil {
			continue
		}
		for _, task := range tasks {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", parent, task.Name()))
			if err != nil {
				continue
			}
			for _, word := range strings.Fields(string(text)) {
				if child, err := strconv.Atoi(word); err == nil {
					all, next = append(all, child), append(next, child)
				}
			}
		}
	}
	return all
}

// Command returns the arguments that a process was started with.
func Command(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
}
