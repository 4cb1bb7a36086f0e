package supervise

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// newFiles is a supervisor that only serves jobs for files.
func newFiles(t *testing.T) *Supervisor {
	t.Helper()
	proc, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &Supervisor{proc: proc, files: make(chan func(*hands), maxQueued), config: Config{Fail: func(err error) { t.Error(err) }}}
	t.Cleanup(func() {
		close(s.files)
		unix.Close(proc)
	})
	s.threads.Store(1)
	if err := s.begin(s.serveFiles); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestThreadsForFilesStartWhenAllOthersHaveWork(t *testing.T) {
	s := newFiles(t)
	begun, release := make(chan bool), make(chan bool)
	for i := range fileThreads {
		if now := s.threads.Load(); int(now) != max(i, 1) {
			t.Fatalf("%d threads for %d jobs", now, i)
		}
		if !s.post(func(*hands) { begun <- true; <-release }) {
			t.Fatal("a job was not taken")
		}
		<-begun // by a thread of its own: none of the others has ended
	}
	done := make(chan bool, maxQueued)
	for range maxQueued {
		if !s.post(func(*hands) { done <- true }) {
			t.Fatal("a job was not queued")
		}
	}
	if now := s.threads.Load(); now != fileThreads {
		t.Errorf("%d threads, at most %d may be", now, fileThreads)
	}
	close(release)
	for range maxQueued {
		<-done
	}
}

func TestOneJobAfterAnotherTakesOneThread(t *testing.T) {
	s := newFiles(t)
	for range 100 {
		done := make(chan bool)
		s.post(func(*hands) { close(done) })
		<-done
		for s.jobs.Load() > 0 { // the thread has only to count it
			runtime.Gosched()
		}
	}
	if now := s.threads.Load(); now != 1 {
		t.Errorf("%d threads for one job at a time", now)
	}
}

func TestAThreadForFilesThatCannotStartLeavesNothingAndTheOthersDoItsWork(t *testing.T) {
	s := newFiles(t)
	proc := s.proc
	notProc, err := unix.Open("/dev", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(notProc)
	s.proc = notProc // has no self/fd
	defer func() { s.proc = proc }()
	before := openFiles(t)
	const tries = 32
	done := make(chan bool, tries)
	release := make(chan bool)
	s.post(func(*hands) { <-release })
	for range tries {
		s.post(func(*hands) { done <- true })
		for s.threads.Load() > 1 {
			runtime.Gosched()
		}
	}
	close(release)
	for range tries {
		<-done
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
