//go:build linux

package trim

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"
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

// childMuch is set for a child that holds more than it needs.
const childMuch = "TRIM_TEST_MUCH"

func TestOnlyAProcessThatHoldsMuchIsCollected(t *testing.T) {
	if much, child := os.LookupEnv(childMuch); child {
		for range 100 * len(much) {
			garbage = bytes.Repeat([]byte{1}, 64<<10) // what is not written is no memory yet
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		now()
		runtime.ReadMemStats(&after)
		fmt.Printf("collections %d, allocated %d\n", after.NumGC-before.NumGC, before.TotalAlloc)
		return
	}
	for _, test := range []struct{ much, said string }{{"", "collections 0,"}, {"x", "collections 1,"}} {
		child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		child.Env = append(os.Environ(), childMuch+"="+test.much, "GOGC=off")
		if said, err := child.CombinedOutput(); err != nil || !strings.Contains(string(said), test.said) {
			t.Errorf("%v, not %q: %s", err, test.said, said)
		}
	}
}

var garbage []byte
