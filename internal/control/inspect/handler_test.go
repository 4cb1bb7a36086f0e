package inspect

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/control/registry"
	"sluice.dev/sluice/internal/format"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/wire"
)

// fakePlane is a data plane of one's making.
type fakePlane struct {
	workloads []WorkloadStatus
	elsewhere []wire.Workload // that are there and have no proxy connected
	snapshots map[string]*wire.Snapshot
	flows     []record.Record
	more      chan record.Record
	asked     FlowQuery
	busy      error         // why nobody can be asked
	ended     chan struct{} // closed when Flows returned
}

func (p *fakePlane) Workloads() []WorkloadStatus { return p.workloads }

// Now is a census: those that are connected and those that are not.
func (p *fakePlane) Now() (now registry.Moment) {
	for _, status := range p.workloads {
		now.Workloads = append(now.Workloads, status.Workload)
	}
	now.Workloads = append(now.Workloads, p.elsewhere...)
	return now
}

func (p *fakePlane) Snapshot(namespace, instance string) *wire.Snapshot {
	return p.snapshots[namespace+"/"+instance]
}

func (p *fakePlane) Flows(ctx context.Context, query FlowQuery, accepted func(), emit func(record.Record) error) error {
	if p.busy != nil {
		return p.busy
	}
	if p.ended != nil {
		defer close(p.ended)
	}
	p.asked = query
	accepted()
	for _, f := range p.flows {
		if err := emit(f); err != nil {
			return err
		}
	}
	for query.Follow {
		select {
		case f := <-p.more:
			if err := emit(f); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

func (p *fakePlane) Flow(_ context.Context, id record.ID) (record.Record, bool, error) {
	for _, f := range p.flows {
		if f.ID == id {
			return f, true, nil
		}
	}
	return record.Record{}, false, p.busy
}

// fakeCompiler compiles an empty policy.
type fakeCompiler struct{ asked wire.Workload }

func (c *fakeCompiler) SnapshotFor(w wire.Workload) (*wire.Snapshot, error) {
	if w.Namespace == "broken" {
		return nil, errors.New("cannot be compiled")
	}
	c.asked = w
	return &wire.Snapshot{Version: "thought", Policies: []*wire.Policy{{}}}, nil
}

func workload(namespace, instance string) WorkloadStatus {
	return WorkloadStatus{Workload: wire.Workload{Namespace: namespace, Instance: instance}, Connected: true}
}

func allowing(host string) *wire.Snapshot {
	return &wire.Snapshot{Version: "acked", Created: time.Now(), Policies: []*wire.Policy{{Rules: []policy.Rule{{
		ID: "egress-rule/default/rule", Hosts: []names.Pattern{names.MustParsePattern(host)},
		Ports: []policy.Port{{Port: 443, Protocol: policy.ProtocolHTTPS}},
	}}}}}
}

func serve(t *testing.T, plane *fakePlane, compiler *fakeCompiler) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(NewHandler(Config{
		Version: Version{Version: "test"}, Census: plane, Data: plane, Compiler: compiler,
		Rules: func() (int64, int) { return 7, 3 },
	}))
	t.Cleanup(server.Close)
	return server
}

func get(t *testing.T, server *httptest.Server, path string, into any) (int, string) {
	t.Helper()
	response, err := server.Client().Get(server.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var failure struct{ Message string }
	if response.StatusCode != http.StatusOK {
		into = &failure
	}
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return response.StatusCode, failure.Message
}

func TestWhyDecidesOnWhatTheProxyAcknowledged(t *testing.T) {
	plane := &fakePlane{
		workloads: []WorkloadStatus{
			workload("default", "details-v1/1"), workload("default", "details-v2/2"), workload("default", "details-v2/1"),
			workload("other", "reviews-v1/1"), workload("default", "ratings-v1/1"), workload("third", "ratings-v1/2"),
		},
		snapshots: map[string]*wire.Snapshot{
			"default/details-v2/1": allowing("*.googleapis.com"), "other/reviews-v1/1": allowing("*.example.com"),
		},
	}
	compiler := &fakeCompiler{}
	server := serve(t, plane, compiler)
	const google, example = "&url=https://www.googleapis.com/", "&url=https://www.example.com/"
	for _, c := range []struct {
		query   string
		code    int
		verdict string // or a part of the message
		from    string
	}{
		{"from=details-v2" + google, 200, "allow", "details-v2/1"},
		{"from=details-v2/1" + google, 200, "allow", "details-v2/1"},
		{"from=details-v2/1" + example, 200, "deny", "details-v2/1"},
		{"from=rev" + example, 200, "allow", "reviews-v1/1"},
		{"from=details" + google, 400, "can mean default/details-v1, default/details-v2", ""},
		{"from=ratings-v1" + google, 400, "can mean default/ratings-v1, third/ratings-v1", ""},
		{"from=details-v1" + google, 409, "no-snapshot", ""},
		{"from=mongo-v1" + google, 200, "deny", "mongo-v1"},
		{"from=mongo" + google, 404, "say what it would be with --label K=V", ""},
		{"label=app:mongo&label=version:v3" + google, 200, "deny", "mongo-v3"},
		{"from=x-v1&namespace=broken" + google, 400, "cannot be compiled", ""},
		{"from=x-v1&namespace=Not_One" + google, 400, "is not a valid DNS label", ""},
		{"from=details-v2", 400, "url is missing", ""},
		{"url=https://a.example/", 400, "from is missing", ""},
		{"from=details-v2&url=nonsense", 400, "say which protocol", ""},
		{"label=app" + google, 400, "must be KEY:VALUE", ""},
	} {
		var why Why
		code, message := get(t, server, "/sluice/why?"+c.query, &why)
		if code != c.code || why.From != c.from || !strings.Contains(message+why.Verdict, c.verdict) {
			t.Errorf("%s: %d %q %+v", c.query, code, message, why)
		}
	}
	if compiler.asked.Labels["version"] != "v3" || compiler.asked.Namespace != "default" {
		t.Errorf("the workload that was thought of: %+v", compiler.asked)
	}
}

func TestEveryAnswerSaysItsFormat(t *testing.T) {
	plane := &fakePlane{
		workloads: []WorkloadStatus{workload("default", "details-v2/1")},
		snapshots: map[string]*wire.Snapshot{"default/details-v2/1": allowing("*.googleapis.com")},
		flows:     []record.Record{{ID: 0xab, Workload: "details-v2/1"}},
	}
	server := serve(t, plane, &fakeCompiler{})
	for _, path := range []string{StatusPath, VersionPath, WhyPath + "?from=details-v2&url=https://www.googleapis.com/", WhyPath + "/00000000000000ab"} {
		var said format.Version
		if code, message := get(t, server, path, &said); code != http.StatusOK || said.Format != Format {
			t.Errorf("%s: %d %s, format %d", path, code, message, said.Format)
		}
	}
	response, err := server.Client().Get(server.URL + FlowsPath)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if got := response.Header.Get(FormatHeader); got != fmt.Sprint(Format) {
		t.Errorf("%s: format %q", FlowsPath, got)
	}
}

// No query makes the server fail: whatever is asked, it answers, with JSON.
func FuzzQuery(f *testing.F) {
	f.Add(WhyPath, "from=details-v2&url=https://www.googleapis.com/")
	f.Add(WhyPath, "label=app:mongo&label=version:v3&url=mongo.example.com:27017&method=GET&namespace=default&account=a")
	f.Add(WhyPath, "from=%00&url=http://[::1%25lo]:80/%2e%2e")
	f.Add(FlowsPath, "n=5&workload=details-v2")
	f.Add(WhyPath+"/00000000000000ab", "")
	f.Add(StatusPath, ";")
	handler := NewHandler(Config{
		Census: &fakePlane{}, Compiler: &fakeCompiler{}, Rules: func() (int64, int) { return 7, 3 },
		Data: &fakePlane{flows: []record.Record{{ID: 0xab, Workload: "details-v2/1"}}},
	})
	f.Fuzz(func(t *testing.T, path, query string) {
		request := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: path, RawQuery: query}, Host: "sluice", Header: http.Header{}}
		if query := request.URL.Query(); query.Get("follow") == "1" || !strings.HasPrefix(path, "/sluice/") {
			return // it would go on, or is not ours
		}
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, request)
		if recorder.Code/100 == 3 {
			return // a path that is not clean
		}
		for line := range bytes.Lines(recorder.Body.Bytes()) {
			if !json.Valid(line) {
				t.Fatalf("%s?%s: %d %q", path, query, recorder.Code, line)
			}
		}
		if recorder.Code >= http.StatusInternalServerError {
			t.Fatalf("%s?%s: %d %s", path, query, recorder.Code, recorder.Body)
		}
	})
}

func TestAWorkloadThatAnotherCensusCountsIsListedAndAskedAbout(t *testing.T) {
	plane := &fakePlane{
		workloads: []WorkloadStatus{workload("default", "details-v2/1")},
		elsewhere: []wire.Workload{{Namespace: "default", Instance: "cart-v1/1"}, {Namespace: "a", Instance: "pod-v1/1"}},
	}
	server := serve(t, plane, &fakeCompiler{})
	var status Status
	if code, message := get(t, server, "/sluice/status", &status); code != http.StatusOK {
		t.Fatalf("%d %s", code, message)
	}
	var listed []string
	for _, w := range status.Workloads {
		listed = append(listed, fmt.Sprint(w.Namespace, "/", w.Instance, " ", w.Connected))
	}
	if got := strings.Join(listed, ", "); got != "a/pod-v1/1 false, default/cart-v1/1 false, default/details-v2/1 true" {
		t.Errorf("listed: %s", got)
	}
	code, message := get(t, server, "/sluice/why?from=cart&url=https://www.example.com/", new(Why))
	if code != http.StatusConflict || !strings.Contains(message, "cart-v1/1 has no snapshot yet") {
		t.Errorf("%d %q", code, message)
	}
}

func TestFlowsAreGivenAndFollowed(t *testing.T) {
	plane := &fakePlane{flows: []record.Record{{ID: 1, Workload: "details-v2/1"}}, more: make(chan record.Record)}
	server := serve(t, plane, &fakeCompiler{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	request, _ := http.NewRequestWithContext(ctx, "GET", server.URL+"/sluice/flows?n=5&follow=1&workload=details-v2", nil)
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for id := record.ID(1); id <= 3; id++ {
		if id > 1 {
			plane.more <- record.Record{ID: id}
		}
		var f record.Record
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &f) != nil || f.ID != id {
			t.Fatalf("flow %d: %q", id, lines.Text())
		}
	}
	if want := (FlowQuery{Workload: "details-v2", Last: 5, Follow: true}); plane.asked != want {
		t.Errorf("asked %+v", plane.asked)
	}
	for _, query := range []string{"n=-1", "n=4097", "n=x", "follow=yes", "open=yes", "open=1&follow=1"} {
		if code, _ := get(t, server, "/sluice/flows?"+query, nil); code != http.StatusBadRequest {
			t.Errorf("%s: %d", query, code)
		}
	}
}

func TestFlowsThatAreOpenAreListed(t *testing.T) {
	plane := &fakePlane{flows: []record.Record{{ID: 1, Workload: "details-v2/1", Verdict: record.Allowed, Sent: 20}}}
	server := serve(t, plane, &fakeCompiler{})
	var f record.Record
	if code, message := get(t, server, "/sluice/flows?open=1&n=7&workload=details", &f); code != http.StatusOK || f.ID != 1 || f.Sent != 20 {
		t.Errorf("%d %s %+v", code, message, f)
	}
	if want := (FlowQuery{Workload: "details", Last: 7, Open: true}); plane.asked != want {
		t.Errorf("asked %+v", plane.asked)
	}
	if code, message := get(t, server, "/sluice/flows?open=1&follow=1", nil); code != http.StatusBadRequest || !strings.Contains(message, "exclude each other") {
		t.Errorf("followed: %d %s", code, message)
	}
}

func TestThatNobodyCanBeAskedIsSaid(t *testing.T) {
	server := serve(t, &fakePlane{busy: errors.New("many are asked already")}, &fakeCompiler{})
	for _, path := range []string{"/sluice/flows", "/sluice/flows?follow=1", "/sluice/why/00000000000000ab"} {
		if code, message := get(t, server, path, nil); code != http.StatusServiceUnavailable || !strings.Contains(message, "many are asked already") {
			t.Errorf("%s: %d %s", path, code, message)
		}
	}
}

func TestAFollowerThatStopsReadingIsLetGo(t *testing.T) {
	plane := &fakePlane{more: make(chan record.Record), ended: make(chan struct{})}
	server := httptest.NewServer(NewHandler(Config{Data: plane, flowWrite: 10 * time.Millisecond}))
	t.Cleanup(server.Close)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET /sluice/flows?follow=1 HTTP/1.1\r\nHost: sluice\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	long := record.Record{Path: strings.Repeat("x", 64<<10)}
	deadline := time.After(time.Minute)
	for { // until no buffer takes more
		select {
		case plane.more <- long:
		case <-plane.ended:
			return
		case <-deadline:
			t.Fatal("it holds its place for ever")
		}
	}
}

func TestADecisionIsOpenedByItsID(t *testing.T) {
	plane := &fakePlane{
		workloads: []WorkloadStatus{workload("default", "details-v2/1")},
		snapshots: map[string]*wire.Snapshot{"default/details-v2/1": allowing("*.googleapis.com")},
		flows: []record.Record{
			{ID: 0xab, Workload: "details-v2/1", Dialled: "www.googleapis.com", Port: 443, Sniffed: policy.ClientHello, SNI: "www.googleapis.com", Verdict: record.Denied, Reason: "no-rule", Snapshot: "old"},
			{ID: 0xcd, Workload: "gone-v1/1", Dialled: "www.googleapis.com", Port: 443, Sniffed: policy.ClientHello, Verdict: record.Denied, Reason: "no-server-name"},
		},
	}
	server := serve(t, plane, &fakeCompiler{})
	var opened Opened
	if code, message := get(t, server, "/sluice/why/00000000000000ab", &opened); code != 200 || opened.Sentence != "No rule allows www.googleapis.com:443." || opened.Now == nil || opened.Now.Verdict != "allow" {
		t.Errorf("the rules allow it by now: %d %s %+v", code, message, opened)
	}
	if opened.Verdict != "deny" || opened.Reason != refusal.NoRule || opened.From != "details-v2/1" || opened.Snapshot != "old" || opened.Now.Snapshot != "acked" {
		t.Errorf("what was decided then: %+v", opened.Why)
	}
	var gone Opened
	if code, _ := get(t, server, "/sluice/why/00000000000000cd", &gone); code != 200 || gone.Now != nil || gone.Verdict != "deny" || gone.Remedy != nil {
		t.Errorf("of a workload that is gone: %d %+v", code, gone)
	}
	if code, _ := get(t, server, "/sluice/why/00000000000000ff", nil); code != http.StatusNotFound {
		t.Errorf("an unknown id: %d", code)
	}
	if code, _ := get(t, server, "/sluice/why/zz", nil); code != http.StatusBadRequest {
		t.Errorf("no id: %d", code)
	}
}

// What `why ID` answers is what `why --from` answers of the same request.
func TestADecisionThatTheRulesStillMakeIsToldAsIfItWasAsked(t *testing.T) {
	snapshot := allowing("*.googleapis.com")
	plane := &fakePlane{
		workloads: []WorkloadStatus{workload("default", "details-v2/1")},
		snapshots: map[string]*wire.Snapshot{"default/details-v2/1": snapshot},
		flows: []record.Record{
			{ID: 1, Workload: "details-v2/1", Dialled: "www.google.com", Port: 443, Sniffed: policy.ClientHello, SNI: "www.google.com", Verdict: record.Denied, Reason: refusal.NoRule, Snapshot: "acked"},
			{ID: 2, Workload: "details-v2/1", Dialled: "www.googleapis.com", Port: 443, Sniffed: policy.ClientHello, SNI: "www.googleapis.com", Verdict: record.Allowed, Treatment: policy.Passthrough, Rule: "egress-rule/default/rule", Snapshot: "acked"},
			{ID: 3, Workload: "details-v2/1", Dialled: "www.googleapis.com", Port: 443, Sniffed: policy.ClientHello, SNI: "www.googleapis.com", Verdict: record.Denied, Reason: refusal.PrivateAddress, Rule: "egress-rule/default/rule", Upstream: "10.1.2.3:443", Snapshot: "acked"},
		},
	}
	server := serve(t, plane, &fakeCompiler{})
	for id, asked := range map[string]string{
		"0000000000000001": "url=https://www.google.com/",
		"0000000000000002": "url=https://www.googleapis.com/",
		"0000000000000003": "url=https://www.googleapis.com/&answer=10.1.2.3",
	} {
		var opened Opened
		var why Why
		if code, message := get(t, server, "/sluice/why/"+id, &opened); code != 200 {
			t.Fatalf("%s: %d %s", id, code, message)
		}
		if code, message := get(t, server, "/sluice/why?from=details-v2/1&"+asked, &why); code != 200 {
			t.Fatalf("%s: %d %s", asked, code, message)
		}
		opened.Age, why.Age = 0, 0
		if opened.Now != nil || !reflect.DeepEqual(opened.Why, why) {
			t.Errorf("%s says\n%+v\nand %s\n%+v", id, opened.Why, asked, why)
		}
		if opened.Flow.ID == 0 || opened.Flow.Workload != opened.From {
			t.Errorf("%s: whose it was is lost: %+v", id, opened.Flow)
		}
	}
}

func TestWhyAsksWhatTheDialerDoesWithAnswers(t *testing.T) {
	plane := &fakePlane{
		workloads: []WorkloadStatus{workload("default", "details-v2/1")},
		snapshots: map[string]*wire.Snapshot{"default/details-v2/1": allowing("*.googleapis.com")},
	}
	server := serve(t, plane, &fakeCompiler{})
	const asked = "/sluice/why?from=details-v2&url=https://www.googleapis.com/"
	for answers, want := range map[string]string{
		"&answer=142.250.74.74":                     "allow ",
		"&answer=10.1.2.3&answer=142.250.74.74":     "allow ",
		"&answer=10.1.2.3&answer=169.254.169.254":   "deny private-address",
		strings.Repeat("&answer=142.250.74.74", 65): "more than 64 answers",
		"&answer=www.example.com":                   "not a valid IP address",
		"&url=https://x/&answer=fe80::1%25eth0":     "not a valid IP address",
	} {
		var why Why
		_, message := get(t, server, asked+answers, &why)
		if got := why.Verdict + " " + string(why.Reason) + message; !strings.Contains(got, want) {
			t.Errorf("%.60s: %s, want %s", answers, got, want)
		}
	}
}

func TestWhatIsNotServedIsSaidInTheFormOfTheRules(t *testing.T) {
	server := serve(t, &fakePlane{}, &fakeCompiler{})
	if code, message := get(t, server, "/sluice/nothing", nil); code != http.StatusNotFound || !strings.Contains(message, "is not served") {
		t.Errorf("%d %q", code, message)
	}
	var status Status
	if code, _ := get(t, server, "/sluice/status", &status); code != 200 || status.Workloads == nil || status.Revision != 7 || status.Rules != 3 {
		t.Errorf("%+v", status)
	}
}
