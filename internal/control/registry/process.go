package registry

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"syscall"
)

// Process is one process for all time: its number and when it started, since
// numbers are given again. The zero Process is unknown.
type Process struct {
	PID     int    `json:"pid,omitempty"`
	Started uint64 `json:"started,omitempty"` // clock ticks after the boot; 0 where it is not known
}

// ProcessOf returns the living process of this number.
func ProcessOf(pid int) Process {
	_, started, err := readStat(pid)
	if err != nil {
		return Process{}
	}
	return Process{PID: pid, Started: started}
}

// Ended reports whether the process is known to have ended.
func (p Process) Ended() bool {
	if p.Started == 0 {
		return false
	}
	state, started, err := readStat(p.PID)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
	}
	return started != p.Started || state == 'Z' || state == 'X'
}

// readStat reads the state and the start of a process, fields 3 and 22 of
// proc_pid_stat(5). Its name, field 2, may hold anything.
func readStat(pid int) (state byte, started uint64, err error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, err
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 20 {
		return 0, 0, errors.New("registry: /proc/PID/stat is too short")
	}
	started, err = strconv.ParseUint(string(fields[19]), 10, 64)
	return fields[0][0], started, err
}
