package accesslog

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/telemetry/attribute"
)

func request(verdict record.Verdict) *record.Record {
	r := &record.Record{
		ID: record.NewID(), Start: time.Unix(1_700_000_000, 0), Duration: 3 * time.Millisecond, Workload: "details-v2/1",
		Source:    record.NewEnd(record.Party{Workload: "details-v2", Service: "details", Namespace: "default", Version: "v2"}),
		Direction: record.Egress, Dialled: "www.example.com", Port: 443, Host: "www.example.com", Method: "GET", Path: "/books;jsessionid=s3cret/list", Sniffed: policy.HTTP,
		Verdict: verdict, Rule: "egress-policy/default/books", Treatment: policy.Originate, Status: 200, Sent: 120, Received: 4000, Snapshot: "v7",
		Timings: record.Timings{Queue: time.Microsecond, Connect: 300 * time.Microsecond, TLS: time.Millisecond, FirstByte: 2 * time.Millisecond},
	}
	switch verdict {
	case record.Denied:
		r.Reason, r.Status, r.Treatment = refusal.NoRule, 403, policy.Refuse
	case record.Failed:
		r.Reason, r.Status = refusal.ConnectRefused, 502
	}
	return r
}

func format(t testing.TB, text string) *Format {
	t.Helper()
	f, err := ParseFormat(text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// written is a log that writes to a buffer, and what is there at its end.
func written(t *testing.T, c Config, do func(l *Log)) string {
	t.Helper()
	var b bytes.Buffer
	if c.To == nil {
		c.To = NewLines(&b, format(t, JSON))
	}
	c.Log = slog.New(slog.DiscardHandler)
	l, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	do(l)
	if err := l.End(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestALineSaysWhatWasDecidedAndHowLongItTook(t *testing.T) {
	r := request(record.Allowed)
	text := written(t, Config{Sample: 1}, func(l *Log) { l.Closed(r) })
	var got map[string]any
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err, text)
	}
	for name, want := range map[string]any{
		"check.id": r.ID.String(), "check.rule": "egress-policy/default/books", "check.verdict": "allow", "source.name": "details-v2",
		"request.size": 120.0, "response.size": 4000.0, "response.code": 200.0, "response.duration": 0.003,
		"timing.queue": 0.000001, "timing.connect": 0.0003, "timing.tls": 0.001, "timing.first_byte": 0.002, "context.protocol": "https",
		"request.path": "/books;jsessionid=*/list",
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v in %s", name, got[name], want, text)
		}
	}
	if _, there := got["check.flags"]; there || strings.Contains(text, "null") {
		t.Errorf("what has no value is there: %s", text)
	}
	if text := written(t, Config{Sample: 1}, func(l *Log) { l.Closed(request(record.Failed)) }); !strings.Contains(text, `"check.flags":"UF"`) {
		t.Errorf("a failure has no flag: %s", text)
	}
}

func TestALineMayFollowATemplate(t *testing.T) {
	r := request(record.Denied)
	r.Host = "evil\n\"x\x1b[31m"
	const template = `{{}} {source.name} "{request.method} {request.host} {request.path}" {response.code} {check.flags} {dns.question} {response.duration}!`
	if got, want := string(format(t, template).Append(nil, r)), `{} details-v2 "GET evil\u000a\"x\u001b[31m /books;jsessionid=*/list" 403 DENY - 3ms!`+"\n"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for text, want := range map[string]string{
		"{request.hots}": "not an attribute", "{request.host": "not closed", "a } b": "closes nothing", "plain": "names no attribute", "": "names no attribute",
		"{request.host}\n": "more than one line", strings.Repeat("x", MaxTemplate+1): "longer than",
	} {
		if _, err := ParseFormat(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

// A denial, a failure and what only the audit let pass are always there; of what was
// allowed the share that was asked for.
func TestAllowedLinesMayBeSampledAndDenialsNever(t *testing.T) {
	const each = 4000
	count := func(sample float64) (allowed, others int, counts Counts) {
		var log *Log
		text := written(t, Config{Sample: sample}, func(l *Log) {
			for i := range each {
				l.Closed(request(record.Allowed))
				if i%100 == 0 {
					l.Closed(request(record.Denied))
					l.Closed(request(record.Failed))
					l.Closed(request(record.Audited))
				}
				if i%1000 == 0 {
					settle(t, l)
				}
			}
			log = l
		})
		counts = log.Counts()
		all := strings.Count(text, "\n")
		allowed = strings.Count(text, `"check.verdict":"allow"`)
		return allowed, all - allowed, counts
	}
	for sample, within := range map[float64][2]int{0: {0, 0}, 0.25: {each / 5, each / 3}, 1: {each, each}} {
		allowed, others, counts := count(sample)
		if allowed < within[0] || allowed > within[1] || others != 3*each/100 {
			t.Errorf("of %d allowed ones a sample of %v writes %d; others: %d", each, sample, allowed, others)
		}
		if counts.Sampled != uint64(each-allowed) || counts.Written != uint64(allowed+others) || counts.Dropped+counts.Lost != 0 {
			t.Errorf("%v: %+v", sample, counts)
		}
	}
	for _, bad := range []float64{-0.1, 1.1} {
		if _, err := Open(Config{Sample: bad}); err == nil {
			t.Errorf("a sample of %v is taken", bad)
		}
	}
}

// settle waits until all that was closed is written.
func settle(t *testing.T, l *Log) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if l.feed.Waiting() == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatal("what waits is not written")
		}
	}
}

// hung is an output that takes nothing until it is let go.
type hung struct {
	asked chan struct{}
	once  sync.Once
	let   chan struct{}
	n     int
}

func (h *hung) Write(batch []record.Record) (int, error) {
	h.once.Do(func() { close(h.asked) })
	<-h.let
	h.n += len(batch)
	return 0, nil
}
func (*hung) Close() error { return nil }

// The queue is bounded, a request never waits for it, what finds no place is counted, and a
// flood of what is allowed leaves places for denials.
func TestAnOutputThatHangsHoldsUpNoRequest(t *testing.T) {
	h := &hung{asked: make(chan struct{}), let: make(chan struct{})}
	l, err := Open(Config{To: h, Sample: 1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l.Closed(request(record.Allowed))
	<-h.asked
	for range 10 * MaxWaiting {
		l.Closed(request(record.Allowed))
	}
	if got := l.Dropped(); got != 10*MaxWaiting-MaxAllowed {
		t.Errorf("%d allowed ones were dropped", got)
	}
	for range MaxWaiting - MaxAllowed {
		l.Closed(request(record.Denied))
	}
	if got := l.Dropped(); got != 10*MaxWaiting-MaxAllowed {
		t.Errorf("a denial was dropped: %d", got)
	}
	l.Closed(request(record.Denied))
	if got := l.Dropped(); got != 10*MaxWaiting-MaxAllowed+1 {
		t.Errorf("what is beyond the bound waits: %d", got)
	}
	close(h.let)
	if err := l.End(); err != nil || h.n != MaxWaiting+1 {
		t.Errorf("%d were written: %v", h.n, err)
	}
}

func TestAProgramEndsThoughItsLogHangs(t *testing.T) {
	h := &hung{asked: make(chan struct{}), let: make(chan struct{})}
	defer close(h.let)
	l, err := Open(Config{To: h, Sample: 1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l.Closed(request(record.Allowed))
	if err := l.End(); !errors.Is(err, errLate) {
		t.Errorf("the end says %v", err)
	}
}

// A disk that is full loses lines, which are counted; nothing else comes of it.
func TestAFullDiskIsHarmless(t *testing.T) {
	lines, err := OpenFile("/dev/full", format(t, JSON))
	if err != nil {
		t.Skip(err)
	}
	l, err := Open(Config{To: lines, Sample: 1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		l.Closed(request(record.Allowed))
	}
	if err := l.End(); err != nil {
		t.Error(err)
	}
	if c := l.Counts(); c.Lost != 100 || c.Written != 0 {
		t.Errorf("%+v", c)
	}
}

// halting takes some bytes and then none.
type halting struct {
	bytes.Buffer
	left int
}

func (h *halting) Write(b []byte) (int, error) {
	if n := min(len(b), h.left); n < len(b) {
		h.left -= n
		h.Buffer.Write(b[:n])
		return n, errors.New("full")
	}
	h.left -= len(b)
	return h.Buffer.Write(b)
}

func TestALineThatWasTornSpoilsNoOther(t *testing.T) {
	to := &halting{left: 1500}
	lines := NewLines(to, format(t, JSON))
	one := []record.Record{*request(record.Allowed)}
	for range 3 {
		lines.Write(one) //nolint:errcheck // it is full
	}
	to.left = 1 << 20
	if lost, err := lines.Write(one); lost != 0 || err != nil {
		t.Fatal(lost, err)
	}
	all := strings.Split(strings.TrimSuffix(to.String(), "\n"), "\n")
	if !json.Valid([]byte(all[0])) || !json.Valid([]byte(all[len(all)-1])) {
		t.Errorf("lines are\n%s", to.String())
	}
}

func TestAFileThatWasRenamedIsOpenedAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	lines, err := OpenFile(path, format(t, "{check.id}"))
	if err != nil {
		t.Fatal(err)
	}
	one, two := *request(record.Allowed), *request(record.Allowed)
	lines.Write([]record.Record{one}) //nolint:errcheck // read below
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := lines.Reopen(); err != nil {
		t.Fatal(err)
	}
	lines.Write([]record.Record{two}) //nolint:errcheck // read below
	for file, want := range map[string]record.ID{path: two.ID, path + ".1": one.ID} {
		if got, err := os.ReadFile(file); err != nil || string(got) != want.String()+"\n" {
			t.Errorf("%s: %q, %v", file, got, err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	lines.path = filepath.Join(path, "none") // which cannot be opened: the old one goes on
	if err := lines.Reopen(); err == nil {
		t.Error("a file that cannot be opened is")
	}
	if lost, err := lines.Write([]record.Record{one}); lost != 0 || err != nil {
		t.Error(lost, err)
	}
}

// Who reads a named pipe may stop: a reopening that waited for it would hold up the end of the
// program, which waits for the reopening.
func TestAFileIsOpenedAnewThoughAWriteHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := OpenFile(path, format(t, "{check.id}"))
	if err != nil {
		t.Fatal(err)
	}
	const records = 1 << 13 // of 17 bytes: more than a pipe holds
	lost := make(chan int, 1)
	go func() {
		n, err := lines.Write(slices.Repeat([]record.Record{*request(record.Allowed)}, records))
		if err != nil {
			t.Error(err)
		}
		lost <- n
	}()
	time.Sleep(100 * time.Millisecond) // until it hangs
	reopened := make(chan error, 1)
	go func() { reopened <- lines.Reopen() }()
	select {
	case err := <-reopened:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("the reopening waits for the write")
	}
	read := make(chan []byte, 1)
	go func() { all, _ := io.ReadAll(reader); read <- all }()
	if n := <-lost; n != 0 {
		t.Errorf("%d lines are lost", n)
	}
	if err := lines.Close(); err != nil {
		t.Error(err)
	}
	all := <-read
	for line := range bytes.Lines(all) {
		if len(line) != 17 {
			t.Fatalf("a line is torn: %q", line)
		}
	}
	if len(all) != 17*records {
		t.Errorf("%d bytes, want %d", len(all), 17*records)
	}
}

func TestClosingARecordAllocatesNothing(t *testing.T) {
	h := &hung{asked: make(chan struct{}), let: make(chan struct{})}
	l, err := Open(Config{To: h, Sample: 1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r := request(record.Allowed)
	for range MaxWaiting {
		l.Closed(r) // its memory has grown
	}
	if n := testing.AllocsPerRun(1000, func() { l.Closed(r) }); n != 0 {
		t.Errorf("a record allocates %v times", n)
	}
	close(h.let)
	l.End() //nolint:errcheck // it hung
}

func FuzzALineIsOneLineAndShowsNoValueOfAQuery(f *testing.F) {
	f.Add("/a?b=s3cret&c", "host")
	f.Add("/a;v=s3cret/b?s3cret", "a\nb")
	f.Add("/\xff;;a=b=s3cret?x?=s3cret;s3cret=", "\u2028")
	all, template := format(f, JSON), format(f, "{request.path} {request.host}")
	f.Fuzz(func(t *testing.T, path, host string) {
		r := request(record.Allowed)
		r.Path, r.Host = path, host
		line := all.Append(nil, r)
		if bytes.Count(line, []byte("\n")) != 1 || !json.Valid(line) {
			t.Errorf("%q", line)
		}
		if line := template.Append(nil, r); bytes.IndexByte(line, '\n') != len(line)-1 {
			t.Errorf("%q", line)
		}
		_, query, _ := strings.Cut(path, "?")
		for _, pair := range strings.FieldsFunc(query, func(r rune) bool { return r == '&' || r == ';' }) {
			name, value, named := strings.Cut(pair, "=")
			if !named {
				value = name
			}
			shown, _ := attribute.Find("request.path")
			got := string(shown.Of(r).Redacted().Append(nil))
			if len(value) > 3 && !strings.Contains(value, "*") && strings.Contains(got[strings.IndexByte(got, '?'):], "="+value) {
				t.Errorf("%q is shown as %q", path, got)
			}
		}
	})
}

func BenchmarkClosed(b *testing.B) {
	l, err := Open(Config{To: NewLines(io.Discard, format(b, JSON)), Sample: 1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	r := request(record.Allowed)
	b.ReportAllocs()
	for b.Loop() {
		l.Closed(r)
	}
}

func BenchmarkLine(b *testing.B) {
	f, r := format(b, JSON), request(record.Allowed)
	line := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		line = f.Append(line[:0], r)
	}
}
