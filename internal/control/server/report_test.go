package server

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice.dev/sluice/internal/control/compile"
	"sluice.dev/sluice/internal/control/kubeapi"
)

// mesh is what a reporter looks at.
type mesh struct {
	mu        sync.Mutex
	out       *compile.Output
	newer     chan struct{}
	acked     int64 // revision that every workload runs
	running   int   // of those connected, before all do
	connected int
	changed   chan struct{}
	looks     int
	reports   []string
}

func newMesh() *mesh {
	return &mesh{connected: 3, newer: make(chan struct{}), changed: make(chan struct{})}
}

func (m *mesh) compile(revision int64, problems ...compile.Problem) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.out = &compile.Output{Revision: revision, Problems: problems}
	close(m.newer)
	m.newer = make(chan struct{})
}

// ack says that every workload runs this revision, or that some run less.
func (m *mesh) ack(revision int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.acked = revision
	close(m.changed)
	m.changed = make(chan struct{})
}

// run says how many run what not all do.
func (m *mesh) run(workloads int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running = workloads
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *mesh) said() (reports []string, looks int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	reports, looks = m.reports, m.looks
	m.reports, m.looks = nil, 0
	return reports, looks
}

func (m *mesh) reporter() *reporter {
	return &reporter{
		compiled: func() (*compile.Output, <-chan struct{}) {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.out, m.newer
		},
		acked: func(revision int64) (int, int, <-chan struct{}) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.looks++
			if m.acked >= revision {
				return m.connected, m.connected, m.changed
			}
			return m.running, m.connected, m.changed
		},
		byAll: func() int64 {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.acked
		},
		report: func(r kubeapi.Report) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.reports = append(m.reports, fmt.Sprint(r.Revision, " ", r.Programmed()))
		},
	}
}

// reporting runs a reporter on a mesh in a bubble of time. It has looked once, at nothing, and so
// long ago that what comes is seen at once: whether it started before or after the first
// compilation of a test is not left to luck.
func reporting(t *testing.T, test func(*testing.T, *mesh)) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh()
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { m.reporter().run(ctx) })
		time.Sleep(reportAtMost)
		test(t, m)
		cancel()
		running.Wait()
	})
}

func expect(t *testing.T, m *mesh, when string, want ...string) {
	t.Helper()
	synctest.Wait()
	if got, _ := m.said(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: reported %v, want %v", when, got, want)
	}
}

func TestWhatEveryWorkloadRunsIsReportedAtOnceAndOnce(t *testing.T) {
	reporting(t, func(t *testing.T, m *mesh) {
		m.ack(7)
		m.compile(7)
		expect(t, m, "after the compilation", "7 true")
		time.Sleep(reportAtMost)
		m.ack(7)
		m.ack(0) // a workload joined that runs nothing yet
		time.Sleep(time.Hour)
		expect(t, m, "later")
	})
}

func TestWhatIsAcknowledgedInTimeIsNeverReportedAsPending(t *testing.T) {
	reporting(t, func(t *testing.T, m *mesh) {
		m.compile(7)
		time.Sleep(reportGrace - time.Millisecond)
		expect(t, m, "before the grace is over")
		m.ack(7)
		expect(t, m, "at the acknowledgement", "7 true")
	})
}

func TestWhatIsNotAcknowledgedInTimeIsReportedAsPendingOnceAndThenAsDone(t *testing.T) {
	reporting(t, func(t *testing.T, m *mesh) {
		m.compile(7)
		time.Sleep(reportGrace)
		expect(t, m, "when the grace is over", "7 false")
		time.Sleep(time.Hour)
		expect(t, m, "an hour later")
		m.ack(7)
		expect(t, m, "at the acknowledgement", "7 true")
	})
}

func TestHowManyRunWhatIsPendingIsReportedAsItMoves(t *testing.T) {
	reporting(t, func(t *testing.T, m *mesh) {
		m.compile(7)
		time.Sleep(reportGrace)
		expect(t, m, "when the grace is over", "7 false")
		m.run(2)
		time.Sleep(reportAtMost)
		expect(t, m, "when two of three run it", "7 false")
		m.run(2)
		time.Sleep(time.Hour)
		expect(t, m, "when nothing moved")
	})
}

func TestAMeshThatNeverCatchesUpIsReportedAllTheSame(t *testing.T) {
	reporting(t, func(t *testing.T, m *mesh) {
		const changes = 20
		for revision := range int64(changes) { // each sooner than the grace of the one before is over
			m.compile(revision + 1)
			time.Sleep(reportGrace / 5)
		}
		synctest.Wait()
		if reports, _ := m.said(); len(reports) < 2 || len(reports) > changes/5+1 {
			t.Errorf("in %s: %v", changes*reportGrace/5, reports)
		}
	})
}

func TestInAStormWhatAllRunIsReportedAsRunWhileNewerIsOnItsWay(t *testing.T) {
	reporting(t, func(t *testing.T, m *mesh) {
		for revision := range int64(40) { // each is acknowledged when the next is there
			m.compile(revision + 2)
			m.ack(revision + 1)
			time.Sleep(reportGrace / 10)
		}
		synctest.Wait()
		reports, _ := m.said()
		if len(reports) < 3 {
			t.Errorf("in %s: %v", 4*reportGrace, reports)
		}
		for _, report := range reports {
			if strings.HasSuffix(report, "false") {
				t.Errorf("reported as pending: %s", report)
			}
		}
	})
}

func TestNoProblemOfWhatIsOnItsWayIsReportedOfWhatRuns(t *testing.T) {
	reporting(t, func(t *testing.T, m *mesh) {
		lost := compile.Problem{Object: "egress-rule/default/x", Text: "lost a conflict"}
		m.ack(1)
		m.compile(1, lost)
		expect(t, m, "at first", "1 true")
		time.Sleep(reportAtMost)
		m.compile(3) // the winner was deleted; all still run what was before it
		m.ack(2)
		time.Sleep(reportGrace)
		expect(t, m, "when the grace is over", "3 false")
	})
}

func TestNobodyLooksWhileNothingHappensAndAStormIsLookedAtTogether(t *testing.T) {
	reporting(t, func(t *testing.T, m *mesh) {
		m.compile(7)
		time.Sleep(2 * reportGrace)
		synctest.Wait()
		m.said()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if _, looks := m.said(); looks != 0 {
			t.Errorf("in a day without an event it looked %d times", looks)
		}
		const acks = 1000
		for range acks { // of one workload after the other
			m.ack(0)
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		if _, looks := m.said(); looks > int(acks*time.Millisecond/reportAtMost)+1 {
			t.Errorf("at %d acknowledgements in a second it looked %d times", acks, looks)
		}
	})
}
