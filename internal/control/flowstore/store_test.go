package flowstore

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"sluice.dev/sluice/internal/record"
)

// clock is a time that a test sets.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

var silent = slog.New(slog.DiscardHandler)

func open(t *testing.T, path string, c *clock) *Store {
	t.Helper()
	s := Open(path, c.now, silent)
	t.Cleanup(func() { s.Close() })
	return s
}

func sum(c *clock, workload, host string, n int64) record.Sum {
	return record.Sum{
		SumKey: record.SumKey{Hour: hourOf(c.at), Namespace: "default", Workload: workload, Host: host, Port: 443, Verdict: record.Allowed, Rule: "egress-policy/default/one"},
		Counts: record.Counts{Count: n, Sent: 10 * n, Received: 100 * n},
	}
}

func flow(c *clock, id record.ID, ago time.Duration) record.Record {
	return record.Record{ID: id, Start: c.at.Add(-ago).Add(-time.Second), Duration: time.Second, Workload: "details-v2/1", Host: "a.example.com", Port: 443, Verdict: record.Denied}
}

func add(t *testing.T, s *Store, number uint64, flows []record.Record, sums ...record.Sum) {
	t.Helper()
	if err := s.Add(&record.Batch{Number: number, Sums: sums, Flows: flows}); err != nil {
		t.Fatal(err)
	}
}

func summary(t *testing.T, s *Store, since time.Time) *Summary {
	t.Helper()
	got, err := s.Summary(since, 1000, record.SumFilter{})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// A server that restarts keeps all, and takes a batch that comes again once.
func TestWhatWasAddedIsThereAfterARestartAndOnce(t *testing.T) {
	path, c := filepath.Join(t.TempDir(), "flows.db"), &clock{time.Unix(1_800_000_000, 0)}
	s := open(t, path, c)
	add(t, s, 7, []record.Record{flow(c, 1, 0)}, sum(c, "details-v2", "a.example.com", 2), sum(c, "details-v2", "b.example.com", 1))
	c.at = c.at.Add(time.Hour)
	add(t, s, 8, nil, sum(c, "details-v2", "a.example.com", 3))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, c)
	add(t, s, 7, []record.Record{flow(c, 1, 0)}, sum(c, "details-v2", "a.example.com", 2))
	got := summary(t, s, c.at.Add(-2*time.Hour))
	if len(got.Sums) != 2 || got.Sums[0].Host != "a.example.com" || got.Sums[0].Counts != (record.Counts{Count: 5, Sent: 50, Received: 500}) || got.Total.Count != 6 {
		t.Errorf("%+v", got)
	}
	if k := got.Sums[0].SumKey; k.Namespace != "default" || k.Workload != "details-v2" || k.Rule != "egress-policy/default/one" || k.Verdict != record.Allowed || k.Port != 443 {
		t.Errorf("%+v", k)
	}
	if now := summary(t, s, c.at); len(now.Sums) != 1 || now.Total.Count != 3 {
		t.Errorf("of the hour alone: %+v", now)
	}
	one, err := s.Summary(c.at.Add(-2*time.Hour), 1, record.SumFilter{Host: "B.example.com"})
	if err != nil || len(one.Sums) != 1 || one.Total.Count != 1 || one.More != 0 {
		t.Errorf("of one host: %+v %v", one, err)
	}
}

func TestBatchesThatComeTogetherAreOneChange(t *testing.T) {
	c := &clock{time.Unix(1_800_000_000, 0)}
	s := open(t, filepath.Join(t.TempDir(), "flows.db"), c)
	changes := func() (id int) {
		if err := s.view(func(tx *bolt.Tx) error { id = tx.ID(); return nil }); err != nil {
			t.Fatal(err)
		}
		return id
	}
	before := changes()
	var batches []*record.Batch
	for i := range 20 {
		batches = append(batches, &record.Batch{Number: uint64(i%10 + 1), Sums: []record.Sum{sum(c, "a-v1", fmt.Sprint("h", i), 1)}}) // each comes twice
	}
	for range 2 {
		if err := s.Add(batches...); err != nil {
			t.Fatal(err)
		}
	}
	if got := summary(t, s, c.at); got.Total.Count != 10 || changes() != before+1 {
		t.Errorf("%d are there, after %d changes", got.Total.Count, changes()-before)
	}
}

func TestFlowsAreKeptForAnHourAndSumsForThirtyDays(t *testing.T) {
	c := &clock{time.Unix(1_800_000_000, 0)}
	s := open(t, filepath.Join(t.TempDir(), "flows.db"), c)
	add(t, s, 1, []record.Record{flow(c, 1, 0), flow(c, 2, 30*time.Minute), flow(c, 3, 61*time.Minute)}, sum(c, "a-v1", "old", 1))
	ids := func() (all []record.ID) {
		flows, err := s.Flows(100, record.Filter{Verdict: record.Denied})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range flows {
			all = append(all, f.ID)
		}
		return all
	}
	if got := ids(); fmt.Sprint(got) != "[0000000000000001 0000000000000002]" {
		t.Errorf("%v", got)
	}
	if f, ok, err := s.Flow(2); err != nil || !ok || f.Host != "a.example.com" {
		t.Errorf("%+v %v %v", f, ok, err)
	}
	if _, ok, _ := s.Flow(3); ok {
		t.Error("one of more than an hour ago is there")
	}
	began := c.at
	c.at = c.at.Add(40 * time.Minute)
	s.Prune()
	if got := ids(); len(got) != 1 {
		t.Errorf("%v", got)
	}
	c.at = began.Add(30*24*time.Hour - time.Hour)
	add(t, s, 2, nil, sum(c, "a-v1", "new", 1))
	if got := summary(t, s, began); got.Total.Count != 2 || len(ids()) != 0 {
		t.Errorf("%+v", got)
	}
	c.at = began.Add(30*24*time.Hour + time.Hour)
	s.Prune()
	if got := summary(t, s, began); got.Total.Count != 1 || !got.ForgottenTo.IsZero() || s.state.Rows != 1 {
		t.Errorf("%+v", got)
	}
}

// Clocks of proxies differ, and one may say anything: nothing is kept longer for it.
func TestWhatIsOfNoTimeThatIsKeptIsOfTheNearestThatIs(t *testing.T) {
	c := &clock{time.Unix(1_800_000_000, 0)}
	s := open(t, filepath.Join(t.TempDir(), "flows.db"), c)
	early, late := sum(c, "a-v1", "early", 1), sum(c, "a-v1", "late", 1)
	early.Hour, late.Hour = -1<<62, 1<<62
	add(t, s, 1, []record.Record{flow(c, 1, -1000*time.Hour)}, early, late)
	if got := summary(t, s, c.at.Add(-KeepSums)); got.Total.Count != 2 {
		t.Errorf("%+v", got)
	}
	c.at = c.at.Add(2 * time.Hour)
	s.Prune()
	if _, ok, _ := s.Flow(1); ok {
		t.Error("a flow of the future stays")
	}
}

// One workload that asks for many hosts takes no place from others, and what is left out is
// in the sums of the host Other, and said.
func TestManyHostsAreSummedUpInOneBeyondTheBound(t *testing.T) {
	c := &clock{time.Unix(1_800_000_000, 0)}
	s := open(t, filepath.Join(t.TempDir(), "flows.db"), c)
	s.limits = limits{rows: 250, hourRows: 100, flows: 10, flowBytes: 1 << 20, file: MaxFile, used: MaxUsed}
	hour := func() {
		var many []record.Sum
		for i := range 300 {
			many = append(many, sum(c, "loud-v1", fmt.Sprintf("h%d.example.com", i), 1))
		}
		add(t, s, uint64(c.at.Unix()), nil, append(many, sum(c, "quiet-v1", "a.example.com", 1))...)
	}
	hour()
	got := summary(t, s, c.at)
	if got.Total.Count != 301 || len(got.Sums) != 25+1+1 || got.Lost.Folded != 275 || got.Sums[0].Host != record.Other || got.Sums[0].Count != 275 || got.Sums[0].Workload != "loud-v1" {
		t.Errorf("%d sums of %+v, lost %+v, first %+v", len(got.Sums), got.Total, got.Lost, got.Sums[0])
	}
	first := c.at
	for range 20 {
		c.at = c.at.Add(time.Hour)
		hour()
	}
	got = summary(t, s, first)
	if s.state.Rows > 250 || got.ForgottenTo.IsZero() || got.ForgottenTo.After(c.at) {
		t.Errorf("%d rows, forgotten until %s", s.state.Rows, got.ForgottenTo)
	}
}

// A host is what a workload says: one that is called as the sum of others is has no more rows
// than any. What a proxy summed up itself is not counted as lost again.
func TestAHostThatIsCalledOtherIsBoundedAsAny(t *testing.T) {
	c := &clock{time.Unix(1_800_000_000, 0)}
	s := open(t, filepath.Join(t.TempDir(), "flows.db"), c)
	s.limits.hourRows = 100
	var many []record.Sum
	for port := range uint16(300) {
		many = append(many, sum(c, "loud-v1", record.Other, 1))
		many[port].Port = port + 1
	}
	add(t, s, 1, nil, many...)
	got := summary(t, s, c.at)
	if len(got.Sums) != 25+1 || got.Total.Count != 300 || got.Lost.Folded != 275 {
		t.Errorf("%d sums of %+v, lost %+v", len(got.Sums), got.Total, got.Lost)
	}
	folded := sum(c, "loud-v1", record.Other, 7)
	folded.Port, folded.Rule = 0, ""
	if err := s.Add(&record.Batch{Number: 2, Sums: []record.Sum{folded}, Lost: record.Losses{Folded: 7}}); err != nil {
		t.Fatal(err)
	}
	if got := summary(t, s, c.at); got.Total.Count != 307 || got.Lost.Folded != 275+7 {
		t.Errorf("%+v, lost %+v", got.Total, got.Lost)
	}
}

// A workload of which a host found no row in an hour that is full keeps the rows that it has.
func TestAWorkloadKeepsItsRowsInAnHourThatIsFull(t *testing.T) {
	c := &clock{time.Unix(1_800_000_000, 0)}
	s := open(t, filepath.Join(t.TempDir(), "flows.db"), c)
	s.limits.hourRows = 8
	add(t, s, 1, nil, sum(c, "first-v1", "a", 1))
	for i := range 15 { // and so 16 rows: beyond it all have one
		add(t, s, uint64(i+2), nil, sum(c, fmt.Sprintf("w%d-v1", i), "a", 1))
	}
	add(t, s, 20, nil, sum(c, "first-v1", "b", 1))
	add(t, s, 21, nil, sum(c, "first-v1", "a", 1))
	got, err := s.Summary(c.at, 10, record.SumFilter{Workload: "first-v1"})
	if err != nil || len(got.Sums) != 1 || got.Sums[0].Host != "a" || got.Sums[0].Count != 2 || s.state.Rows != 17 {
		t.Errorf("%+v of %d rows, %v", got, s.state.Rows, err)
	}
}

func TestFlowsBeyondTheBoundTakeThePlaceOfTheOldest(t *testing.T) {
	c := &clock{time.Unix(1_800_000_000, 0)}
	s := open(t, filepath.Join(t.TempDir(), "flows.db"), c)
	s.limits.flows = 10
	for i := range 30 {
		add(t, s, uint64(i), []record.Record{flow(c, record.ID(i+1), 30*time.Minute-time.Duration(i)*time.Second)})
	}
	flows, err := s.Flows(100, record.Filter{})
	if err != nil || len(flows) != 10 || flows[0].ID != 30 || flows[9].ID != 21 {
		t.Errorf("%d %v", len(flows), err)
	}
	if got := summary(t, s, c.at); got.Lost.NotKept != 20 {
		t.Errorf("%+v", got.Lost)
	}
	s.limits.flows, s.limits.flowBytes = 100, 300 // less than two
	add(t, s, 99, nil)
	if s.state.Flows != 1 || s.state.FlowBytes > 300 {
		t.Errorf("%+v", s.state)
	}
}

// What a server that was stopped for long finds is forgotten step by step, and the bound on
// flows holds however many come.
func TestOneChangeForgetsABoundedNumberOfFlows(t *testing.T) {
	c := &clock{time.Unix(1_800_000_000, 0)}
	s := open(t, filepath.Join(t.TempDir(), "flows.db"), c)
	s.limits.flows = 4 * record.MaxKept
	batch := func(number int) {
		var flows []record.Record
		for i := range record.MaxKept {
			flows = append(flows, flow(c, record.ID(number<<20|i), 0))
		}
		add(t, s, uint64(number), flows)
		if s.state.Flows > s.limits.flows {
			t.Errorf("%d flows after batch %d", s.state.Flows, number)
		}
	}
	for number := range 8 {
		batch(number + 1)
	}
	c.at = c.at.Add(2 * KeepFlows)
	for left := s.state.Flows; left > 0; left -= maxPruned {
		if s.state.Flows != left {
			t.Fatalf("%d flows are left, not %d", s.state.Flows, left)
		}
		if err := s.Prune(); err != nil {
			t.Fatal(err)
		}
	}
	if flows, err := s.Flows(1, record.Filter{}); err != nil || len(flows) != 0 || s.state.Flows != 0 || s.state.FlowBytes != 0 {
		t.Errorf("left: %v %+v, %v", flows, s.state, err)
	}
}

// A server that is idle, and a batch that comes again, write nothing.
func TestWhatChangesNothingWritesNothing(t *testing.T) {
	c := &clock{time.Unix(1_800_000_000, 0)}
	s := open(t, filepath.Join(t.TempDir(), "flows.db"), c)
	written := func() (last int) { // the number of the last change of the file
		t.Helper()
		if err := s.view(func(tx *bolt.Tx) error { last = tx.ID(); return nil }); err != nil {
			t.Fatal(err)
		}
		return last
	}
	batch := func(number uint64) { add(t, s, number, []record.Record{flow(c, 1, 0)}, sum(c, "a-v1", "a", 1)) }
	prune := func() {
		t.Helper()
		if err := s.Prune(); err != nil {
			t.Fatal(err)
		}
	}
	batch(1)
	before := written()
	batch(1)
	prune()
	if now := written(); now != before {
		t.Errorf("%d changes were written", now-before)
	}
	batch(2) // it adds to a row that is there, and has a flow that is: its counts and number are written
	if got := summary(t, s, c.at); written() != before+1 || got.Total.Count != 2 {
		t.Errorf("%d changes were written, %+v", written()-before, got.Total)
	}
	c.at = c.at.Add(2 * KeepFlows)
	batch(2) // what is too old goes with it
	if _, there, err := s.Flow(1); err != nil || there || written() != before+2 {
		t.Errorf("%v %v, %d changes were written", there, err, written()-before)
	}
	c.at = c.at.Add(KeepSums)
	prune()
	prune()
	if got := summary(t, s, c.at.Add(-2*KeepSums)); got.Total.Count != 0 || written() != before+3 {
		t.Errorf("%+v, %d changes were written", got.Total, written()-before)
	}
}

// The file of a later release is left alone, and one that is damaged is kept beside.
func TestAFileThatThisBuildDoesNotReadIsNotLost(t *testing.T) {
	c := &clock{time.Unix(1_800_000_000, 0)}
	path := filepath.Join(t.TempDir(), "flows.db")
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket(metaBucket)
		if err != nil {
			return err
		}
		return b.Put(formatKey, []byte(`{"format":2}`))
	}); err != nil {
		t.Fatal(err)
	}
	db.Close()
	before, _ := os.ReadFile(path)
	s := open(t, path, c)
	add(t, s, 1, nil, sum(c, "a-v1", "a", 1))
	if after, _ := os.ReadFile(path); string(after) != string(before) || summary(t, s, c.at).Total.Count != 0 {
		t.Error("the file of a later release was changed")
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("nothing of ours", 10_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, c)
	add(t, s, 1, nil, sum(c, "a-v1", "a", 1))
	if _, err := os.Stat(path + ".unread"); err != nil || summary(t, s, c.at).Total.Count != 1 {
		t.Errorf("a damaged file: %v", err)
	}
}
