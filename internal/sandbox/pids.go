package sandbox

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// A program may name files in a folder that sandboxes share by its process number, as a
// JVM does with /tmp/.java_pid7. So the numbers inside begin elsewhere in each sandbox.

const (
	lastPid = "/proc/sys/kernel/ns_last_pid"

	// reservedPids are not given again by the kernel when its numbers have run out once.
	reservedPids = 300
	// defaultMaxPid is the kernel's least on a machine that is not tiny.
	defaultMaxPid = 32768
)

// pidSeed tells one sandbox of this machine from the others that live: by the number that
// its init has outside, and by the namespace which that number is of.
func pidSeed(init int) uint64 {
	var namespace unix.Stat_t
	unix.Stat("/proc/self/ns/pid", &namespace) // where it cannot be asked, there is one
	// Both are odd. The first is 2^64 over the golden ratio: what it makes of near numbers
	// lies as far apart as can be.
	return uint64(init)*0x9e3779b97f4a7c15 + namespace.Ino*0xd1b54a32d192ed03
}

// firstPid is where the numbers of a seed begin, below most.
func firstPid(seed uint64, most int) int {
	if most <= 2*reservedPids {
		return reservedPids
	}
	return reservedPids + int(seed>>32*uint64(most-2*reservedPids)>>32)
}

// beginPids lets the numbers inside begin where the seed says, and says why they do not.
func beginPids(seed uint64) (note string) {
	most, err := strconv.Atoi(sysctl("kernel/pid_max"))
	if err != nil {
		most = defaultMaxPid
	}
	if err := os.WriteFile(lastPid, []byte(strconv.Itoa(firstPid(seed, most)-1)), 0); err != nil {
		return fmt.Sprintf("JVMs of several sandboxes at once may disturb one another: they have the same process numbers, and name files in /tmp by them (%v)", err)
	}
	return ""
}
