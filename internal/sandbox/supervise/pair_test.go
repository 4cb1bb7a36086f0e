package supervise

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTheLimitOfOpenFilesIsReadAsTheKernelWritesIt(t *testing.T) {
	text, err := os.ReadFile("/proc/self/limits")
	if err != nil {
		t.Fatal(err)
	}
	var want unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &want); err != nil {
		t.Fatal(err)
	}
	if got, err := parseOpenLimit(text); err != nil || uint64(got) != want.Cur {
		t.Errorf("%d %v, want %d", got, err, want.Cur)
	}
	for _, bad := range []string{"", "Max open files", "Max open files            unlimited            files", "Max open files 99999999999 1 files"} {
		if got, err := parseOpenLimit([]byte(bad)); err == nil {
			t.Errorf("%q is %d", bad, got)
		}
	}
}
