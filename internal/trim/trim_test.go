//go:build linux

package trim

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// resident returns how much of a segment is in memory, in kB, and how much of it is not
// the file's.
func resident(t *testing.T, s segment) (rss, anonymous int) {
	t.Helper()
	file, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	inside := false
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var begin, end uintptr
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x ", &begin, &end); n == 2 {
			inside = begin >= s.begin && end <= s.end
			continue
		}
		name, rest, _ := strings.Cut(lines.Text(), ":")
		if !inside || name != "Rss" && name != "Anonymous" {
			continue
		}
		n, err := strconv.Atoi(strings.Fields(rest)[0])
		if err != nil {
			t.Fatal(err)
		}
		if name == "Rss" {
			rss += n
		} else {
			anonymous += n
		}
	}
	return rss, anonymous
}

func TestTheProgramsPagesAreGivenBackAndComeAgain(t *testing.T) {
	segments := clean()
	if segments == nil {
		t.Skip("this test's binary is linked dynamically")
	}
	if len(segments) < 2 {
		t.Fatalf("%+v", segments)
	}
	sum := func() (sum byte) {
		for _, s := range segments {
			for at := s.begin; at < s.end; at += 512 {
				sum += *(*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&at)))
			}
		}
		return sum
	}
	before := sum()
	for _, s := range segments {
		rss, anonymous := resident(t, s)
		if size := int(s.end-s.begin) >> 10; rss < size/2 || anonymous != 0 {
			t.Fatalf("of %d kB %d are resident, %d are not the file's", size, rss, anonymous)
		}
	}
	now()
	left, all := 0, 0
	for _, s := range segments {
		rss, _ := resident(t, s)
		left, all = left+rss, all+int(s.end-s.begin)>>10
	}
	if left > all*3/4 {
		t.Errorf("of %d kB %d are still resident", all, left)
	}
	if after := sum(); after != before {
		t.Error("the program is another one")
	}
}

func TestOnlyAProcessThatHoldsMuchIsCollected(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // by nobody else
	collections := func() uint32 {
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		return memory.NumGC
	}
	before := collections()
	if collect(worthCollecting); collections() != before {
		t.Error("a process that holds little was collected")
	}
	if collect(worthCollecting + 1); collections() == before {
		t.Error("a process that holds much was not collected")
	}
}

func TestAProcessKnowsHowMuchMemoryItHasOfItsOwn(t *testing.T) {
	const size = 64 << 20
	before := own()
	held, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(held)
	for at := 0; at < size; at += unix.Getpagesize() {
		held[at] = 1 // what is not written is no memory yet
	}
	if grown := own() - before; grown < size/2 || grown > 2*size {
		t.Errorf("%d bytes more were counted as %d", size, grown)
	}
}
