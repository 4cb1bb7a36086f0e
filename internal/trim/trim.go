//go:build linux

// Package trim gives back the memory that a process needed for its start alone: what
// the collector can free, and the pages of its own program that it may not need again.
// `sluice run` and the init of a sandbox call it once, when the command has run for a
// while. It never drops a page that the kernel cannot read again from the file.
package trim

import (
	"debug/elf"
	"encoding/binary"
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

func now() {
	debug.FreeOSMemory()
	for _, segment := range clean() {
		// An error leaves the pages where they are.
		unix.Syscall(unix.SYS_MADVISE, segment.begin, segment.end-segment.begin, unix.MADV_DONTNEED)
	}
}

// segment is a part of the program in memory.
type segment struct{ begin, end uintptr }

// clean returns those parts of the program that nobody has written: the kernel drops
// their pages itself when memory is short, and reads them again when they are touched.
// A program that a dynamic linker or its own start relocates has written into them, so
// it has none.
func clean() (segments []segment) {
	headers, size, count := programHeaders()
	if size != uint64(binary.Size(elf.Prog64{})) {
		return nil
	}
	page := uintptr(unix.Getpagesize())
	for i := range count {
		header := (*elf.Prog64)(unsafe.Add(headers, i*size))
		switch elf.ProgType(header.Type) {
		case elf.PT_DYNAMIC, elf.PT_INTERP:
			return nil
		case elf.PT_LOAD:
			if elf.ProgFlag(header.Flags)&elf.PF_W == 0 {
				begin := uintptr(header.Vaddr) &^ (page - 1)
				end := (uintptr(header.Vaddr+header.Memsz) + page - 1) &^ (page - 1)
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
