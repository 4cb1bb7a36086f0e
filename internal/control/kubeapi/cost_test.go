package kubeapi

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime returns how long this process has run on processors so far.
func cpuTime(t testing.TB) time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkCPUOfARule measures the processor time of the whole process, client
// and server, for each rule: from create until the store told of it, and for its
// status.
func BenchmarkCPUOfARule(b *testing.B) {
	const rules = 1000
	for b.Loop() {
		s := start(b, "", acceptAll)
		store, calls := follow(b, s)
		next(b, calls, "the first call", holds())
		idle := cpuTime(b)
		for i := range rules {
			s.create(b, fmt.Sprintf("rule-%04d", i), fmt.Sprintf("h%d.example.com", i))
		}
		all := next(b, calls, "all rules", func(call told) bool { return len(call.objects) == rules })
		created := cpuTime(b)
		store.Report(Report{Revision: all.revision})
		for store.written() < rules {
			time.Sleep(20 * time.Millisecond)
		}
		reported := cpuTime(b)
		b.ReportMetric(float64((created-idle).Microseconds())/rules, "create-cpu-µs/rule")
		b.ReportMetric(float64((reported-created).Microseconds())/rules, "status-cpu-µs/rule")
	}
}
