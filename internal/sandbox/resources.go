package sandbox

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bounds of Resources. Below the least memory the sandbox itself does not start.
const (
	MostPids    = 1 << 22 // PID_MAX_LIMIT
	LeastMemory = 32 << 20
	MostMemory  = 1 << 50
	LeastCPUs   = 0.01
	MostCPUs    = 4096
)

// Resources bound what everything inside uses together; 0 sets no limit. Init, which is
// ours, is not counted.
type Resources struct {
	Pids   int     // processes and threads; in its first milliseconds the command may start a few more
	Memory int64   // bytes, without any swap
	CPUs   float64 // seconds of processor a second
}

// LimitError says why a limit cannot be set here.
type LimitError struct {
	Flag   string // of `sluice run`, "--memory"
	Reason string
}

func (e *LimitError) Error() string { return e.Flag + ": " + e.Reason }

// Reached says how often the kernel held the command to a limit.
type Reached struct {
	MemoryKills  uint64 // processes that were killed for want of memory
	ForksRefused uint64 // processes and threads that could not be started
}

func (l *Resources) check() error {
	switch {
	case l.Pids != 0 && (l.Pids < 1 || l.Pids > MostPids):
		return &LimitError{"--pids", fmt.Sprintf("%d must be a number from 1 to %d", l.Pids, MostPids)}
	case l.Memory != 0 && (l.Memory < LeastMemory || l.Memory > MostMemory):
		return &LimitError{"--memory", fmt.Sprintf("%d bytes must be from %dM to %dT", l.Memory, LeastMemory>>20, int64(MostMemory)>>40)}
	case l.CPUs != 0 && !(l.CPUs >= LeastCPUs && l.CPUs <= MostCPUs):
		return &LimitError{"--cpus", fmt.Sprintf("%g must be a number from %g to %d", l.CPUs, LeastCPUs, MostCPUs)}
	}
	return nil
}

// controllers are those of cgroups that the limits require, with the flag of each.
func (l *Resources) controllers() (needed []controller) {
	if l.Pids != 0 {
		needed = append(needed, controller{"pids", "--pids"})
	}
	if l.Memory != 0 {
		needed = append(needed, controller{"memory", "--memory"})
	}
	if l.CPUs != 0 {
		needed = append(needed, controller{"cpu", "--cpus"})
	}
	return needed
}

type controller struct{ name, flag string }

var sizeUnits = map[byte]float64{'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40}

// ParseMemory reads an amount of memory: bytes, or a number with one of K, M, G and T,
// which are powers of 1024 with or without an i behind them.
func ParseMemory(text string) (bytes int64, err error) {
	wrong := fmt.Errorf("%q is not an amount of memory: write bytes, or a number with K, M, G or T (powers of 1024), as in 512M or 1.5G", text)
	number, unit := strings.ToUpper(text), 1.0
	if short, found := strings.CutSuffix(number, "I"); found {
		if number = short; number == "" || sizeUnits[number[len(number)-1]] == 0 {
			return 0, wrong
		}
	}
	if last := len(number) - 1; last > 0 && sizeUnits[number[last]] != 0 {
		number, unit = number[:last], sizeUnits[number[last]]
	}
	value, err := parseDecimal(number)
	if err != nil {
		return 0, wrong
	}
	value *= unit
	if value < LeastMemory || value > MostMemory {
		return 0, fmt.Errorf("%q must be from %dM to %dT", text, LeastMemory>>20, int64(MostMemory)>>40)
	}
	return int64(math.Round(value)), nil
}

// ParseCPUs reads a number of processors, which may be a fraction.
func ParseCPUs(text string) (float64, error) {
	value, err := parseDecimal(text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number of processors: write it as in 2 or 0.5", text)
	}
	limits := Resources{CPUs: value}
	if value == 0 || limits.check() != nil {
		return 0, fmt.Errorf("%q must be a number from %g to %d", text, LeastCPUs, MostCPUs)
	}
	return value, nil
}

// ParsePids reads a number of processes.
func ParsePids(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > MostPids {
		return 0, fmt.Errorf("%q must be a number from 1 to %d", text, MostPids)
	}
	return n, nil
}

// parseDecimal reads digits with at most one point among them, and nothing else that
// a float may be.
func parseDecimal(text string) (float64, error) {
	if strings.Trim(text, "0123456789.") != "" {
		return 0, errors.New("not a decimal number")
	}
	return strconv.ParseFloat(text, 64)
}
