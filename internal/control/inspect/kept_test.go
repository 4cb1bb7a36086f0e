package inspect

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/telemetry/trace"
)

// keeping keeps one flow, and remembers what it was asked for.
type keeping struct {
	asked SummaryQuery
	n     int
	of    record.Filter
}

func (k *keeping) Summary(_ context.Context, query SummaryQuery) (*Summary, error) {
	k.asked = query
	return &Summary{Sums: []record.Sum{{SumKey: record.SumKey{Workload: "details-v2", Host: "a.example.com"}, Counts: record.Counts{Count: 3}}}}, nil
}

func (k *keeping) Kept(_ context.Context, n int, filter record.Filter) ([]record.Record, error) {
	k.n, k.of = n, filter
	return []record.Record{{ID: 0xcd, Workload: "details-v2/1"}}, nil
}

func (k *keeping) Flow(id record.ID) (record.Record, bool, error) {
	return record.Record{ID: id, Workload: "details-v2/1", Dialled: "kept.example.com", Port: 443, Verdict: record.Denied, Reason: "no-rule"}, id == 0xcd, nil
}

func serveKept(t *testing.T, keeper Keeper) *httptest.Server {
	t.Helper()
	plane := &fakePlane{}
	server := httptest.NewServer(NewHandler(Config{Census: plane, Data: plane, Compiler: &fakeCompiler{}, Keeper: keeper, Rules: func() (int64, int) { return 1, 1 }}))
	t.Cleanup(server.Close)
	return server
}

func TestASummaryIsAskedForAsItIsMeant(t *testing.T) {
	k := new(keeping)
	server := serveKept(t, k)
	want := SummaryQuery{Since: time.Unix(1_800_000_000, 0).UTC(), SumFilter: record.SumFilter{
		Namespace: "default", Workload: "details-v2", Verdict: record.Denied, Host: "a.example.com", Port: 443, Rule: "egress-policy/default/one",
	}}
	var answer Summary
	if code, said := get(t, server, SummaryPath+"?"+want.Values().Encode(), &answer); code != http.StatusOK {
		t.Fatal(code, said)
	}
	if k.asked != want || answer.Format != Format || len(answer.Sums) != 1 || answer.Sums[0].Count != 3 {
		t.Errorf("asked for %+v, want %+v; answered %+v", k.asked, want, answer)
	}
	for query, want := range map[string]string{
		"": `since="" must be a time`, "since=2026-01-01T00:00:00Z&port=0": `port="0" must be a port`, "since=2026-01-01T00:00:00Z&verdict=no": `"no" is not a valid verdict`,
	} {
		if code, said := get(t, server, SummaryPath+"?"+query, &answer); code != http.StatusBadRequest || !strings.Contains(said, want) {
			t.Errorf("%s: %d %q", query, code, said)
		}
	}
}

// A flow that no ring has any more is opened by what the server keeps.
func TestAFlowThatIsKeptIsOpened(t *testing.T) {
	k := new(keeping)
	server := serveKept(t, k)
	var opened Opened
	if code, said := get(t, server, WhyPath+"/00000000000000cd", &opened); code != http.StatusOK || opened.Flow.Dialled != "kept.example.com" {
		t.Errorf("%d %s %+v", code, said, opened.Flow)
	}
	if code, said := get(t, server, WhyPath+"/00000000000000ce", &opened); code != http.StatusNotFound {
		t.Errorf("%d %s", code, said)
	}
	traced := trace.ID{7}
	var f record.Record
	if code, said := get(t, server, KeptPath+"?n=50000&workload=details-v2&trace="+traced.String(), &f); code != http.StatusOK || f.ID != 0xcd || k.n != MaxKept || k.of != (record.Filter{Workload: "details-v2", Trace: traced}) {
		t.Errorf("%d %s %+v, of %d of %+v", code, said, f, k.n, k.of)
	}
	if code, _ := get(t, server, KeptPath+"?follow=1", &f); code != http.StatusBadRequest {
		t.Errorf("followed: %d", code)
	}
	if code, said := get(t, server, KeptPath+"?n=50001", &f); code != http.StatusBadRequest || !strings.Contains(said, "from 0 to 50000") {
		t.Errorf("of more than are kept: %d %s", code, said)
	}
	if code, said := get(t, server, KeptPath+"?trace=7", &f); code != http.StatusBadRequest || !strings.Contains(said, `trace="7" must be the id of a trace, 32 hex digits`) {
		t.Errorf("of a trace that is none: %d %s", code, said)
	}
}

// large keeps more than any buffer between takes.
type large struct{ Keeper }

func (large) Kept(context.Context, int, record.Filter) ([]record.Record, error) {
	return slices.Repeat([]record.Record{{Path: strings.Repeat("x", 64<<10)}}, 1000), nil
}

func (large) Summary(context.Context, SummaryQuery) (*Summary, error) {
	return &Summary{Sums: slices.Repeat([]record.Sum{{SumKey: record.SumKey{Host: strings.Repeat("x", 64<<10)}}}, 1000)}, nil
}

func TestAReaderOfWhatIsKeptThatStopsReadingIsLetGo(t *testing.T) {
	for _, path := range []string{KeptPath, SummaryPath + "?since=2026-01-01T00:00:00Z"} {
		t.Run(path, func(t *testing.T) { letGo(t, path) })
	}
}

func letGo(t *testing.T, path string) {
	handler := NewHandler(Config{Keeper: large{}, flowWrite: 10 * time.Millisecond})
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET " + path + " HTTP/1.1\r\nHost: sluice\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("it holds its flows for ever")
	}
}

func TestAServerThatKeepsNothingSaysSo(t *testing.T) {
	server := serveKept(t, nil)
	for _, path := range []string{SummaryPath + "?since=2026-01-01T00:00:00Z", KeptPath} {
		var into Summary
		if code, said := get(t, server, path, &into); code != http.StatusNotImplemented || !strings.Contains(said, "keeps no flows") {
			t.Errorf("%s: %d %q", path, code, said)
		}
	}
}
