package versions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice.dev/sluice/internal/format/shape"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/wire"
)

// clock is one that a test turns.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.at }

func (c *clock) turn(by time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.at = c.at.Add(by) }

// log is what a store said.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(b) }

func (l *log) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

// opened is a store that has read its file, and which the test drives in place of Run.
func opened(t *testing.T, path string, c *clock, inForce ...string) (*Store, *log) {
	t.Helper()
	said := new(log)
	s := New(Config{Path: path, Now: c.now, InForce: func() ([]string, []string) { return inForce, nil }, Log: slog.New(slog.NewTextHandler(said, nil))})
	s.begin()
	return s, said
}

func fresh(t *testing.T) string { return filepath.Join(t.TempDir(), "versions.jsonl") }

// allowing makes a version whose rules are these, and which has parts that others have too.
func allowing(t *testing.T, rules ...string) (*wire.Index, []*wire.Part) {
	t.Helper()
	values := map[string]any{
		wire.PartMesh: &wire.Mesh{OutboundDefault: "Deny", MaxStale: time.Hour}, wire.PartRoutes: &wire.Routes{}, wire.PartDirectory: &wire.Directory{Domain: "cluster.local"},
	}
	for _, id := range rules {
		values[wire.PolicyPartName(wire.PartPolicyOwn, id)] = &wire.Policy{Rules: []policy.Rule{{ID: id, Ports: []policy.Port{{Port: 443, Protocol: policy.ProtocolHTTPS}}}}}
	}
	index := &wire.Index{Parts: make(map[string]wire.Hash), Revision: int64(len(rules)), Created: time.Unix(1_800_000_000+int64(len(rules)), 0).UTC()}
	var parts []*wire.Part
	for _, name := range slices.Sorted(maps.Keys(values)) {
		part, err := wire.EncodePart(name, values[name])
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, part)
		index.Parts[name] = part.Hash
	}
	index.Version = wire.VersionOf(index.Parts)
	return index, parts
}

func keep(t *testing.T, s *Store, instance string, rules ...string) (version string) {
	t.Helper()
	index, parts := allowing(t, rules...)
	s.Keep(index, parts, wire.Workload{Instance: instance, Namespace: "default", Labels: map[string]string{"app": "a"}, PID: 7})
	s.take()
	return index.Version
}

// rulesOf is the rules of a version by their IDs, or why they are not known.
func rulesOf(s *Store, version string) string {
	snapshot, err := s.Snapshot(version)
	if err != nil {
		return err.Error()
	}
	var ids []string
	for _, rule := range snapshot.Rules() {
		ids = append(ids, rule.ID)
	}
	return strings.Join(ids, " ")
}

func start() *clock { return &clock{at: time.Unix(1_800_000_000, 0).UTC()} }

func TestWhatWasInForceIsKnownAfterwardsAndAfterARestart(t *testing.T) {
	path, c := fresh(t), start()
	s, _ := opened(t, path, c)
	one, two, three := keep(t, s, "a/1", "x"), keep(t, s, "a/1", "x", "y"), keep(t, s, "b/1", "y")
	check := func(s *Store, when string) {
		t.Helper()
		for version, want := range map[string]string{one: "x", two: "x y", three: "y"} {
			if got := rulesOf(s, version); got != want {
				t.Errorf("%s: %s says %q, want %q", when, version, got, want)
			}
		}
		if snapshot, err := s.Snapshot(two); err != nil || snapshot.Version != two || snapshot.Revision != 2 || snapshot.Created.IsZero() {
			t.Errorf("%s: %+v, %v", when, snapshot, err)
		}
		if w, ok := s.Workload("b/1"); !ok || w.Labels["app"] != "a" || w.Namespace != "default" || w.PID != 0 {
			t.Errorf("%s: %+v", when, w)
		}
	}
	check(s, "afterwards")
	killed, _ := opened(t, path, c) // without a Close
	check(killed, "after it was killed")
	if err := killed.Close(); err != nil {
		t.Fatal(err)
	}
	again, _ := opened(t, path, c)
	check(again, "after a restart")
	if _, err := again.Snapshot("abc"); !errors.Is(err, ErrNotKept) {
		t.Errorf("of a version that never was: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// What a stream was given is known at once, for the decision may be asked about at once.
func TestWhatWaitsToBeKeptIsKnownAlready(t *testing.T) {
	s, _ := opened(t, "", start())
	index, parts := allowing(t, "x")
	s.Keep(index, parts, wire.Workload{Instance: "a/1"})
	if got := rulesOf(s, index.Version); got != "x" {
		t.Errorf("got %q", got)
	}
	if _, ok := s.Workload("a/1"); !ok {
		t.Error("the workload is not known")
	}
}

func TestAVersionIsForgottenADayAfterItWasLastInForce(t *testing.T) {
	path, c := fresh(t), start()
	s, _ := opened(t, path, c)
	old, current := keep(t, s, "a/1", "x"), keep(t, s, "a/1", "y")
	s.config.InForce = func() ([]string, []string) { return []string{current}, []string{"a/1"} }
	for range 30 {
		c.turn(time.Hour)
		s.look()
	}
	killed, _ := opened(t, path, c)
	for when, s := range map[string]*Store{"": s, "after it was killed: ": killed} {
		if got := rulesOf(s, old); got != ErrNotKept.Error() {
			t.Errorf("%swhat was not in force for 30 hours says %q", when, got)
		}
		if got := rulesOf(s, current); got != "y" {
			t.Errorf("%swhat is in force says %q", when, got)
		}
	}
	if len(s.parts) != 4 {
		t.Errorf("%d parts are held of one version of 4", len(s.parts))
	}
}

// What comes again after it was forgotten has two lines, and what follows rests on the second.
func TestAVersionThatWasForgottenAndComesAgainIsKept(t *testing.T) {
	path, c := fresh(t), start()
	s, _ := opened(t, path, c)
	s.limits.versions = 2
	one := keep(t, s, "a/1", "x")
	for _, rule := range []string{"y", "z"} {
		c.turn(time.Second)
		keep(t, s, "a/1", rule)
	}
	c.turn(time.Second)
	if rulesOf(s, one) != ErrNotKept.Error() || keep(t, s, "a/1", "x") != one {
		t.Fatal("it was not forgotten")
	}
	c.turn(time.Second)
	last := keep(t, s, "a/1", "x", "y")
	killed, said := opened(t, path, c)
	if rulesOf(killed, one) != "x" || rulesOf(killed, last) != "x y" || said.String() != "" {
		t.Errorf("it says %q, and the one behind it %q; logged: %s", rulesOf(killed, one), rulesOf(killed, last), said)
	}
}

func TestVersionsAndTheirFileAreBounded(t *testing.T) {
	path, c := fresh(t), start()
	s, _ := opened(t, path, c)
	s.limits = limits{versions: 50, bytes: 4 << 20, workloads: 40, waiting: maxWaiting, file: maxFile / 2}
	var last, first string
	for i := range 150 {
		c.turn(time.Second)
		last = keep(t, s, fmt.Sprintf("a/%d", i), fmt.Sprintf("rule-%03d", i))
		if first == "" {
			first = last
		}
	}
	if len(s.versions) != 50 || len(s.parts) != 53 || len(s.ran) > 40 {
		t.Errorf("%d versions, %d parts, %d workloads are held", len(s.versions), len(s.parts), len(s.ran))
	}
	if rulesOf(s, first) != ErrNotKept.Error() || rulesOf(s, last) != "rule-149" {
		t.Errorf("the first says %q, the last %q", rulesOf(s, first), rulesOf(s, last))
	}
	s.limits.bytes = 2000
	keep(t, s, "a/1", "other")
	if s.bytes > 2000 || s.bytes < 0 {
		t.Errorf("%d bytes are held", s.bytes)
	}
}

// A change of the rules reaches a thousand workloads in a row, each with a version of its own.
func TestWhatManyWorkloadsAreSentAtOnceIsAllKeptWithinTheBounds(t *testing.T) {
	s, said := opened(t, "", start())
	const many = 1000
	var sent []string
	give := func(i int) {
		index, parts := allowing(t, fmt.Sprintf("rule-%04d", i))
		sent = append(sent, index.Version)
		for range 3 { // a stream begins anew
			s.Keep(index, parts, wire.Workload{Instance: fmt.Sprintf("a/%d", i)})
		}
	}
	for i := range many {
		give(i)
	}
	for range 2 { // as it waits, and when it is kept
		for i, version := range sent {
			if got, want := rulesOf(s, version), fmt.Sprintf("rule-%04d", i); got != want {
				t.Fatalf("version %d says %q", i, got)
			}
			if _, ok := s.Workload(fmt.Sprintf("a/%d", i)); !ok {
				t.Fatalf("workload %d is not known", i)
			}
		}
		s.take()
	}
	if len(s.versions) != many || len(s.ran) != many || said.String() != "" || s.taken != nil {
		t.Errorf("%d versions and %d workloads are kept; it said %s", len(s.versions), len(s.ran), said)
	}
	for what, bound := range map[string]func(*limits) (most int, got func() int){
		"versions": func(l *limits) (int, func() int) {
			l.versions = 8
			return 8, func() int { return len(s.waiting.versions) }
		},
		"workloads": func(l *limits) (int, func() int) {
			l.workloads = 8
			return 8, func() int { return len(s.waiting.workloads) }
		},
		"bytes": func(l *limits) (int, func() int) {
			l.waiting = 4 << 10
			return 8 << 10, func() int { return s.waiting.bytes }
		},
	} {
		s, said = opened(t, "", start())
		most, got := bound(&s.limits)
		for i := range 200 {
			give(i)
		}
		if n := got(); n > most || n < most/4 || strings.Count(said.String(), "too fast") != 1 {
			t.Errorf("%s: %d wait, of %d at most; it said %s", what, n, most, said)
		}
	}
}

func TestTheFileOfVersionsDoesNotGrowWithWhatIsForgotten(t *testing.T) {
	path, c := fresh(t), start()
	s, _ := opened(t, path, c)
	s.limits.versions = 2
	for i := range 30 {
		noise, random := make([]byte, 100<<10), rand.New(rand.NewPCG(1, uint64(i))) // which is not compressed away
		for j := range noise {
			noise[j] = 'a' + byte(random.IntN(26))
		}
		keep(t, s, "a/1", string(noise))
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if most := int64(4*100<<10 + 3<<19); info.Size() > most || info.Size() != s.written {
		t.Errorf("the file has %d bytes, of %d at most; %d are known to be written", info.Size(), most, s.written)
	}
}

// Rules stay for weeks while what workloads are called changes with each run.
func TestTheFileOfVersionsDoesNotGrowWithWhatWorkloadsRanWhileTheRulesStay(t *testing.T) {
	path, c := fresh(t), start()
	s, _ := opened(t, path, c)
	index, parts := allowing(t, "x")
	long := strings.Repeat("l", 4<<10)
	ran := func(times int) {
		for i := range times {
			c.turn(time.Second)
			s.Keep(index, parts, wire.Workload{Instance: "a/1", Labels: map[string]string{"run": fmt.Sprint(i), "long": long}})
			s.take()
		}
	}
	size := func() int64 {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	ran(600)
	if got, most := size(), int64(slack+64<<10); got > most {
		t.Errorf("the file has %d bytes after 600 runs of one workload, of %d at most", got, most)
	}
	// What is kept may be large: then the file is rewritten before the reader would cut it.
	noise, random := make([]byte, 3<<20), rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = 'a' + byte(random.IntN(26))
	}
	keep(t, s, "b/1", string(noise))
	s.limits.file = size() + slack/2
	ran(600)
	if got, most := size(), s.limits.file+slack; got > most {
		t.Errorf("the file has %d bytes, of %d at most", got, most)
	}
	if again, _ := opened(t, path, c); rulesOf(again, index.Version) != "x" || again.ran["a/1"] == nil || again.ran["a/1"].workload.Labels["run"] != "599" {
		t.Error("what it ran last is not in the file")
	}
}

func TestDamageOfTheFileCostsWhatItTouches(t *testing.T) {
	path, c := fresh(t), start()
	s, _ := opened(t, path, c)
	one, two := keep(t, s, "a/1", "x"), keep(t, s, "a/1", "y")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for say, damage := range map[string][]byte{
		"the last line is cut":  whole[:len(whole)-5],
		"a line makes no sense": append([]byte(strings.Replace(string(whole), "\n", "\nrubbish\n", 1)), "{\"part\":{\"hash\":7}}\n{}\nnull\n"...),
		"it is empty":           nil,
		"it is rubbish":         []byte("rubbish"),
	} {
		if err := os.WriteFile(path, damage, 0o600); err != nil {
			t.Fatal(err)
		}
		s, said := opened(t, path, c)
		for version, rule := range map[string]string{one: "x", two: "y"} {
			if got := rulesOf(s, version); got != rule && got != ErrNotKept.Error() {
				t.Errorf("%s: %s says %q", say, version, got)
			}
		}
		if say == "a line makes no sense" && (rulesOf(s, one) != "x" || rulesOf(s, two) != "y" || !strings.Contains(said.String(), "lines of the file of versions cannot be read")) {
			t.Errorf("%s, and what it does not touch is gone: %q, %q; it said %s", say, rulesOf(s, one), rulesOf(s, two), said)
		}
		keep(t, s, "a/1", "z") // it goes on
		if again, _ := opened(t, path, c); len(again.versions) == 0 {
			t.Errorf("%s: nothing is kept any more", say)
		}
	}
	// A part that was changed is not taken for what it was.
	s, _ = opened(t, fresh(t), c)
	one = keep(t, s, "a/1", "x")
	for _, p := range s.versions[one].parts {
		if strings.HasPrefix(p.name, wire.PartPolicyOwn) {
			p.packed, _ = s.pack([]byte(`{"rules":[{"id":"evil"}]}`))
		}
	}
	if got := rulesOf(s, one); !strings.Contains(got, "is damaged") {
		t.Errorf("a part that was changed says %q", got)
	}
}

func TestTheFileOfALaterReleaseIsLeftAsItIs(t *testing.T) {
	path, c := fresh(t), start()
	const later = `{"format":7}` + "\nin another way\n"
	if err := os.WriteFile(path, []byte(later), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _ := opened(t, path, c)
	version := keep(t, s, "a/1", "x")
	s.look()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != later {
		t.Errorf("it is %q now, %v", content, err)
	}
	if got := rulesOf(s, version); got != "x" {
		t.Errorf("in memory it says %q", got)
	}
}

// A disk that is full costs the file alone, and only until there is space again.
func TestAFileThatCannotBeWrittenIsWrittenLater(t *testing.T) {
	path, c := fresh(t), start()
	s, said := opened(t, path, c)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("there is no /dev/full:", err)
	}
	s.file = full
	version := keep(t, s, "a/1", "x")
	if got := rulesOf(s, version); got != "x" || !strings.Contains(said.String(), syscall.ENOSPC.Error()) {
		t.Errorf("it says %q; it logged %s", got, said)
	}
	s.look()
	if again, _ := opened(t, path, c); rulesOf(again, version) != "x" {
		t.Error("it is not in the file")
	}
}

// A server that did not come as far as to read what a former one kept does not replace it.
func TestAStoreThatNeverRanLeavesTheFile(t *testing.T) {
	path, c := fresh(t), start()
	s, _ := opened(t, path, c)
	version := keep(t, s, "a/1", "x")
	if err := New(Config{Path: path, Now: c.now, Log: slog.New(slog.DiscardHandler)}).Close(); err != nil {
		t.Fatal(err)
	}
	if again, _ := opened(t, path, c); rulesOf(again, version) != "x" {
		t.Error("it is gone")
	}
}

func TestWhoGivesVersionsWhileOthersAskNeverWaits(t *testing.T) {
	c := start()
	s := New(Config{Path: fresh(t), Now: c.now, InForce: func() ([]string, []string) { return nil, nil }, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	var versions []string
	for i := range 60 {
		index, parts := allowing(t, fmt.Sprint("r", i))
		versions = append(versions, index.Version)
		running.Go(func() { s.Keep(index, parts, wire.Workload{Instance: fmt.Sprint("a/", i)}) })
		running.Go(func() { _, _ = s.Snapshot(index.Version); _, _ = s.Workload(fmt.Sprint("a/", i)) })
	}
	cancel()
	running.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for i, version := range versions {
		if got := rulesOf(s, version); got != fmt.Sprint("r", i) {
			t.Errorf("%d says %q", i, got)
		}
	}
}

func TestTheShapeOfTheFileIsThatOfItsFormat(t *testing.T) {
	shape.Check(t, "versions", Format, line{})
}

// No file makes reading it fail, and what is read of it is what it says.
func FuzzFile(f *testing.F) {
	f.Add([]byte("{\"format\":1}\n"))
	path, c := filepath.Join(f.TempDir(), "versions.jsonl"), start()
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s, _ := opened(t, path, c)
		for name, v := range s.versions {
			if v.index(); wire.VersionOf(v.index().Parts) != name {
				t.Errorf("%s is kept as %s", wire.VersionOf(v.index().Parts), name)
			}
			_, _ = s.Snapshot(name)
		}
		_ = s.Close()
	})
}
