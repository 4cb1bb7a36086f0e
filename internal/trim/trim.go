//go:build linux

// Package trim gives back the memory that a process needed for its start alone: what
// the collector can free, where that is much, and the pages of its own program that it may not need again.
// `sluice run` and the init of a sandbox call it once, when the command has run for a
// while. It never drops a page that the kernel cannot read again from the file.
package trim

import (
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Settle is how long a process runs before it is trimmed: a command that ends sooner
// costs nothing.
const Settle = time.Second

// Later trims after Settle, unless what it returns is stopped.
func Later() *time.Timer { return time.AfterFunc(Settle, now) }

// worthCollecting is how much memory of its own, in bytes, a process must have for a
// collection to pay: the collector makes tables for what it looks at, half a megabyte of them,
// and what it frees lies scattered over pages that stay. A process that was never collected
// is not collected by time either, so one that does nothing stays as it is.
const worthCollecting = 4 << 20

func now() {
	collect(own())
	for _, segment := range clean() {
		// An error leaves the pages where they are.
		unix.Syscall(unix.SYS_MADVISE, segment.begin, segment.end-segment.begin, unix.MADV_DONTNEED)
	}
}

// collect collects in a process that has so much memory of its own, where that is much.
func collect(own int) {
	if own > worthCollecting {
		debug.FreeOSMemory() // a second collection would leave more in the collector than it finds
	}
}

// own is how much memory this process has that is not a file's. The runtime's statistics
// would cost more memory than they save.
func own() int {
	text, err := os.ReadFile("/proc/self/statm") // pages: of addresses, resident, of these shared, …
	if err != nil {
		return math.MaxInt
	}
	var addresses, resident, shared int
	if _, err := fmt.Sscan(string(text), &addresses, &resident, &shared); err != nil {
		return math.MaxInt
	}
	return (resident - shared) * os.Getpagesize()
}

// programHeader is that of elf(5), for 64 bits. Package debug/elf has it too, and would be a
// part of each start.
type programHeader struct {
	kind, flags                                uint32
	offset, address, physical, file, memory, _ uint64
}

const (
	kindLoad, kindDynamic, kindInterpreter = 1, 2, 3
	flagWritable                           = 2
)

// segment is a part of the program in memory.
type segment struct{ begin, end uintptr }

// clean returns those parts of the program that nobody has written: the kernel drops
// their pages itself when memory is short, and reads them again when they are touched.
// A program that a dynamic linker or its own start relocates has written into them, so
// it has none.
func clean() (segments []segment) {
	headers, size, count := programHeaders()
	if size != uint64(unsafe.Sizeof(programHeader{})) {
		return nil
	}
	page := uintptr(unix.Getpagesize())
	for i := range count {
		header := (*programHeader)(unsafe.Add(headers, i*size))
		switch header.kind {
		case kindDynamic, kindInterpreter:
			return nil
		case kindLoad:
			if header.flags&flagWritable == 0 {
				begin := uintptr(header.address) &^ (page - 1)
				end := (uintptr(header.address+header.memory) + page - 1) &^ (page - 1)
				segments = append(segments, segment{begin, end})
			}
		}
	}
	return segments
}

// programHeaders are those that the kernel has loaded, as it says to the program.
func programHeaders() (at unsafe.Pointer, size, count uint64) {
	const (
		headers = 3 // AT_PHDR
		entry   = 4 // AT_PHENT
		number  = 5 // AT_PHNUM
	)
	vector, err := unix.Auxv()
	if err != nil {
		return nil, 0, 0
	}
	for _, pair := range vector {
		switch pair[0] {
		case headers:
			at = *(*unsafe.Pointer)(unsafe.Pointer(&pair[1]))
		case entry:
			size = uint64(pair[1])
		case number:
			count = uint64(pair[1])
		}
	}
	if at == nil {
		return nil, 0, 0
	}
	return at, size, count
}
