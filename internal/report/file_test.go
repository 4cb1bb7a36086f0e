package report

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

func create(t *testing.T, path string) *File {
	t.Helper()
	f, err := Create("report", path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The schema is a promise: a line that changes here is another format.
func TestAReportIsThreeKindsOfLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.jsonl")
	f := create(t, path)
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for _, line := range []any{
		Start{Format: Format, Kind: "start", Time: at, Sluice: "1.0", Workload: "curl/1", Command: []string{"curl", "https://www.example.com/"}, Level: "sandbox", Lowered: []string{"a part is missing"}},
		FlowOf(&record.Record{
			ID: 0x70d350fa85c31e82, Start: at, Duration: 12 * time.Millisecond, Workload: "curl/1", Direction: record.Egress,
			Dialled: "www.example.com", Port: 443, SNI: "www.example.com", Sniffed: policy.ClientHello, Verdict: record.Denied, Reason: refusal.NoRule,
			Sent: 517, Snapshot: "298b",
		}),
		FlowOf(&record.Record{
			ID: 1, Start: at, Workload: "curl/1", Direction: record.Egress, Dialled: "www.example.com", Port: 80, Host: "www.example.com",
			Method: "GET", Path: "/a", Upgrade: "websocket", Sniffed: policy.HTTP, Verdict: record.Allowed, Rule: "egress-policy/default/r",
			Treatment: policy.Forward, Upstream: "192.0.2.7:80", Status: 101, Sent: 100, Received: 200, Snapshot: "298b",
		}),
		End{Format: Format, Kind: "end", Time: at, Exit: 35, Counts: Counts{Denied: 1, Allowed: 1}},
	} {
		if err := f.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	want := `{"format":1,"kind":"start","time":"2026-11-23T10:00:00Z","sluice":"1.0","workload":"curl/1","command":["curl","https://www.example.com/"],"level":"sandbox","lowered":["a part is missing"]}
{"format":1,"kind":"flow","id":"70d350fa85c31e82","time":"2026-11-23T10:00:00Z","durationNs":12000000,"workload":"curl/1","outcome":"denied","destination":"www.example.com:443","reason":"no-rule","text":"No rule allows this destination on this port.","direction":"egress","transport":"tcp","port":443,"dialled":"www.example.com","sni":"www.example.com","protocol":"tls","sent":517,"received":0,"snapshot":"298b"}
{"format":1,"kind":"flow","id":"0000000000000001","time":"2026-11-23T10:00:00Z","durationNs":0,"workload":"curl/1","outcome":"allowed","destination":"www.example.com:80","address":"192.0.2.7:80","rule":"egress-policy/default/r","direction":"egress","transport":"tcp","port":80,"dialled":"www.example.com","host":"www.example.com","method":"GET","path":"/a","upgrade":"websocket","protocol":"http","treatment":"forward","status":101,"sent":100,"received":200,"snapshot":"298b"}
{"format":1,"kind":"end","time":"2026-11-23T10:00:00Z","exit":35,"allowed":1,"audited":0,"denied":1,"notReached":0,"clientLeft":0,"undecided":0,"dropped":0}
`
	if got := read(t, path); got != want {
		t.Errorf("the report is\n%swant\n%s", got, want)
	}
}

func TestAReportTakesThePlaceOfAFileAndNotItsOtherNames(t *testing.T) {
	dir := t.TempDir()
	path, other, link := filepath.Join(dir, "report"), filepath.Join(dir, "other"), filepath.Join(dir, "link")
	if err := os.WriteFile(path, []byte("of yesterday\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path, other); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("report", link); err != nil {
		t.Fatal(err)
	}
	f := create(t, link)
	if f.Path() != path {
		t.Errorf("the command must not reach %s, and it says %s", path, f.Path())
	}
	if err := f.Write(End{Kind: "end"}); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if got := read(t, link); !strings.HasPrefix(got, `{"format"`) {
		t.Errorf("behind the link is %q", got)
	}
	if got := read(t, other); got != "of yesterday\n" {
		t.Errorf("under its other name the old file is %q now", got)
	}
}

func TestAReportThatIsNotThereAnyMoreIsSaid(t *testing.T) {
	for name, forge := range map[string]func(path string) error{
		"removed": os.Remove,
		"replaced": func(path string) error {
			return os.Rename(path, path+".true")
		},
		"replaced by another": func(path string) error {
			os.Rename(path, path+".true")
			return os.WriteFile(path, []byte("nothing was denied\n"), 0o600)
		},
	} {
		path := filepath.Join(t.TempDir(), "report")
		f := create(t, path)
		if err := forge(path); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err == nil || !strings.Contains(err.Error(), path+" was moved away or replaced") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAReportThatCannotBeWrittenIsAnError(t *testing.T) {
	if _, err := Create("report", t.TempDir()); err == nil || !strings.Contains(err.Error(), "it is a folder") {
		t.Errorf("a folder: %v", err)
	}
	if _, err := Create("report", "/does/not/exist/report"); err == nil {
		t.Error("a folder that is missing is no error")
	}
	f := create(t, "/dev/full")
	if err := f.Write(End{}); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("a full device: %v", err)
	}
	if f.Path() != "" || f.Close() != nil {
		t.Error("a device is neither hidden nor replaced")
	}
}

// What the shell opened for us is not replaced.
func TestStandardOutputIsAReportToo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	f := create(t, "/proc/self/fd/"+itoa(out.Fd()))
	if err := f.Write(End{Kind: "end"}); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if text := read(t, path); !json.Valid([]byte(text)) {
		t.Errorf("the file holds %q", text)
	}
}

func itoa(fd uintptr) string {
	text, _ := json.Marshal(fd)
	return string(bytes.TrimSpace(text))
}
