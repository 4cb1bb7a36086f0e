package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"sluice.dev/sluice/internal/control/registry"
	"sluice.dev/sluice/internal/format"
	"sluice.dev/sluice/internal/wire"
)

// memoryFile, in the data folder, is what a server leaves to the next: which
// names its workloads have and which services are known. It is a hint. Losing it
// costs a workload that comes back its number, at the worst.
const memoryFile = "workloads.json"

const (
	// maxMemory bounds the file, in bytes.
	maxMemory = 32 << 20
	// rememberAtMost is the least time between two writes; a server that is killed
	// forgets no more than what changed in it.
	rememberAtMost = 100 * time.Millisecond
)

// recall reads what the server before left. Without it, or where it cannot be
// read, this one begins anew. What a later release left is not this one's to
// replace: then nothing is remembered.
func (s *Server) recall() registry.Memory {
	memory, err := readMemory(s.memoryPath())
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return memory
	}
	s.config.Log.Warn("the workloads of the previous run are not known", "error", err)
	var unknown *format.UnknownError
	if s.forgetful = errors.As(err, &unknown) && unknown.Newer(); s.forgetful {
		s.config.Log.Warn("the file is left as it is, and the names of workloads are not kept over a restart", "file", s.memoryPath())
	}
	return memory
}

func (s *Server) memoryPath() string { return filepath.Join(s.config.DataDir, memoryFile) }

func readMemory(path string) (registry.Memory, error) {
	file, err := os.Open(path)
	if err != nil {
		return registry.Memory{}, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxMemory+1))
	if err != nil {
		return registry.Memory{}, err
	}
	if len(b) > maxMemory {
		return registry.Memory{}, fmt.Errorf("read %s: more than %d bytes", path, maxMemory)
	}
	if err := registry.Memories.CheckJSON(b); err != nil {
		return registry.Memory{}, fmt.Errorf("read %s: %w", path, err)
	}
	var memory registry.Memory
	if err := wire.DecodeStrict(b, &memory); err != nil {
		return registry.Memory{}, fmt.Errorf("read %s: %w", path, err)
	}
	return memory, nil
}

// remember writes down what is to be known to the next server, after each change
// and at the end of ctx.
func (s *Server) remember(ctx context.Context) {
	var written []byte
	for {
		changed := s.workloads.Now().Changed
		written = s.writeMemory(written)
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(rememberAtMost):
		case <-ctx.Done():
		}
	}
}

// writeMemory replaces the file unless that is what was written last, and returns
// what is in it. It does not wait for the disk: the file outlives the process, and
// need not outlive the machine, on which no workload lives then either.
func (s *Server) writeMemory(last []byte) []byte {
	if s.forgetful {
		return nil
	}
	b, err := json.Marshal(s.workloads.Memory())
	if err == nil && bytes.Equal(b, last) {
		return last
	}
	path := s.memoryPath()
	next := path + ".new"
	if err == nil {
		err = os.WriteFile(next, b, 0o600)
	}
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		s.config.Log.Warn("the list of workloads cannot be written", "error", err)
		_ = os.Remove(next) // it may be there in part
		return last
	}
	return b
}
