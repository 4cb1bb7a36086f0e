package attribute

import (
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/telemetry/trace"
)

func whole() record.Record {
	return record.Record{
		ID: 7, Start: time.Unix(1, 0), Duration: time.Second, Workload: "details-v2/1", Direction: record.Egress,
		Dialled: "www.googleapis.com", Port: 443, SNI: "sni.example.com", Host: "host.example.com", Method: "GET", Path: "/a?q=1",
		Upgrade: "websocket", Question: "SRV", Sniffed: policy.HTTP, Verdict: record.Denied, Reason: refusal.NoRule, Rule: "rule", Route: "route",
		Treatment: policy.Originate, Upstream: "192.0.2.1:443", Status: 403, Attempts: 2, Sent: 1, Received: 2, Detail: "detail", Snapshot: "snapshot",
		Context:     trace.Context{Trace: trace.ID{1}, Span: trace.SpanID{2}, Parent: trace.SpanID{3}},
		Timings:     record.Timings{Queue: 1, Connect: 2, TLS: 3, FirstByte: 4},
		Source:      record.NewEnd(record.Party{Workload: "details-v2", Service: "details", Namespace: "default", Version: "v2", Account: "account"}),
		Destination: record.NewEnd(record.Party{Workload: "ratings-v1", Service: "ratings.default.svc.cluster.local", Namespace: "default", Version: "v1"}),
	}
}

// Whatever a record holds is to be had under a name: no field is kept that logs cannot
// show.
func TestEachFieldOfARecordHasAnAttribute(t *testing.T) {
	request, bytes := whole(), whole()
	bytes.Method, bytes.Status, bytes.Question, bytes.Treatment = "", 0, "", policy.Passthrough
	datagrams := record.Record{Transport: policy.UDP}
	of := reflect.TypeOf(request)
	for i := range of.NumField() {
		if !slices.ContainsFunc([]record.Record{request, bytes, datagrams}, func(full record.Record) bool {
			without := full
			reflect.ValueOf(&without).Elem().Field(i).SetZero()
			return slices.ContainsFunc(All(), func(a Attribute) bool { return a.Of(&full) != a.Of(&without) })
		}) {
			t.Errorf("no attribute shows %s", of.Field(i).Name)
		}
	}
}

func TestAnAttributeHasTheTypeAndTheNameThatTheTableSays(t *testing.T) {
	name := regexp.MustCompile(`^(source|destination|request|response|connection|context|check|dns|timing|trace)\.[a-z_.]+$`)
	request, bytes := whole(), whole()
	bytes.Method, bytes.Status = "", 0
	seen := map[string]bool{}
	for _, a := range All() {
		if !name.MatchString(a.Name) || seen[a.Name] || a.Meaning == "" {
			t.Errorf("%q is twice in the table, or has no meaning or no valid name", a.Name)
		}
		seen[a.Name] = true
		v := a.Of(&request)
		if v.Type == None {
			v = a.Of(&bytes)
		}
		if v.Type != a.Type {
			t.Errorf("%s is of type %v, the table says %v", a.Name, v.Type, a.Type)
		}
		if found, ok := Find(a.Name); !ok || found.Meaning != a.Meaning {
			t.Errorf("%s is not found", a.Name)
		}
		if zero := a.Of(new(record.Record)); zero.Type != None && zero.Type != a.Type {
			t.Errorf("%s of nothing is of type %v", a.Name, zero.Type)
		}
	}
}

// What a stranger chose can end no line, forge no field and steer no terminal.
func TestAValueIsOneStringOfJSONWhateverItHolds(t *testing.T) {
	for _, s := range []string{"a\nb", `a","forged":"`, "\x1b[2J", "\xff\xfe", "a\u0085b\u2028c\u202ed", "ü", strings.Repeat("\\", 3)} {
		b := text(s).AppendJSON(nil)
		var back string
		if err := json.Unmarshal(b, &back); err != nil {
			t.Errorf("%q becomes %s: %v", s, b, err)
		}
		if back != strings.ToValidUTF8(s, "\ufffd") && s != "\xff\xfe" {
			t.Errorf("%q is read back as %q", s, back)
		}
		for _, r := range string(b) {
			if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u2028' || r == '\u202e' {
				t.Errorf("%q holds %U as it is", b, r)
			}
		}
	}
}

func TestAnAttributeAllocatesNothing(t *testing.T) {
	r := whole()
	b := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() {
		b = b[:0]
		for _, a := range table {
			if a.Name != "destination.ip" { // parses, at the end of a connection
				b = a.Of(&r).AppendJSON(b)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
