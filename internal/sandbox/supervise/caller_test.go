package supervise

import (
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const statusText = `Name:	a program
Umask:	0022
Tgid:	41
Pid:	42
TracerPid:	0
Uid:	1	1234	3	4
Gid:	5	1235	7	8
Groups:	1236 1237 
NSpid:	42
Threads:	2
SigPnd:	0000000000004003
ShdPnd:	0000000000010000
SigBlk:	0000000000000001
SigIgn:	0000000000000002
CapEff:	0000000000000006
`

func TestAThreadsStatusSaysWhoItIsAndWhatInterruptsIt(t *testing.T) {
	got := parseStatus([]byte(statusText))
	if got.process != 41 || got.threads != 2 || got.uid != 1234 || got.gid != 1235 || !slices.Equal(got.groups, []uint32{1236, 1237}) ||
		got.effective != 6 || got.pending != 0x4000 || got.shared != 0x10000 || !got.whole {
		t.Errorf("%+v", got)
	}
}

func TestAStatusThatLacksAnythingIsNotWhole(t *testing.T) {
	for line := range strings.Lines(statusText) {
		name, _, _ := strings.Cut(line, ":")
		cut := parseStatus([]byte(strings.Replace(statusText, line, "", 1)))
		needed := slices.Contains([]string{"Tgid", "Threads", "Uid", "Gid", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "CapEff"}, name)
		if cut.whole == needed {
			t.Errorf("without %s: whole is %v", name, cut.whole)
		}
	}
	if parseStatus([]byte(strings.Replace(statusText, "1234", "12x4", 1))).whole {
		t.Error("a user that is not a number passes")
	}
}

func TestOurOwnStatusIsWhole(t *testing.T) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	if got := parseStatus(text); !got.whole || got.process != os.Getpid() || int(got.uid) != os.Geteuid() {
		t.Errorf("%+v", got)
	}
}

func TestOnlyWhatTheKernelTakesForAPathIsOne(t *testing.T) {
	long := append([]byte{unix.AF_UNIX, 0}, strings.Repeat("x", 109)...)
	for _, test := range []struct {
		address []byte
		want    bool
	}{
		{[]byte{unix.AF_UNIX, 0, 'a'}, true},
		{[]byte{unix.AF_UNIX, 0, 'a', 0, 'b'}, true},
		{long[:110], true},
		{long, false}, // the kernel refuses it
		{[]byte{unix.AF_UNIX, 0}, false},
		{[]byte{unix.AF_UNIX, 0, 0, 'a'}, false}, // abstract
		{[]byte{unix.AF_INET, 0, 'a'}, false},
		{[]byte{unix.AF_UNIX, 1, 'a'}, false},
		{nil, false},
	} {
		if isPath(test.address) != test.want {
			t.Errorf("%v: want %v", test.address, test.want)
		}
	}
}
