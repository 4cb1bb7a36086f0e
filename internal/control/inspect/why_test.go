package inspect

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/wire"
)

// remembering is a Past of one's making.
type remembering struct {
	snapshots map[string]*wire.Snapshot
	workloads map[string]wire.Workload
}

func (r remembering) Snapshot(version string) (*wire.Snapshot, error) {
	if s := r.snapshots[version]; s != nil {
		return s, nil
	}
	return nil, errors.New("it is not kept")
}

func (r remembering) Workload(instance string) (w wire.Workload, ok bool) {
	w, ok = r.workloads[instance]
	return w, ok
}

func TestADecisionIsMadeAgainByTheRulesOfThenAndByThoseOfNow(t *testing.T) {
	then := allowing("*.example.com")
	then.Version = "then"
	hello := func(id record.ID, workload, snapshot string) record.Record {
		return record.Record{ID: id, Workload: workload, Dialled: "www.googleapis.com", Port: 443, Sniffed: policy.ClientHello, SNI: "www.googleapis.com", Verdict: record.Denied, Reason: refusal.NoRule, Snapshot: snapshot}
	}
	plane := &fakePlane{
		workloads: []WorkloadStatus{workload("default", "details-v2/1"), workload("default", "joined-v1/1")},
		snapshots: map[string]*wire.Snapshot{"default/details-v2/1": allowing("*.googleapis.com")},
		flows: []record.Record{
			hello(1, "details-v2/1", "then"), hello(2, "details-v2/1", "lost"), hello(3, "left-v1/1", "then"), hello(4, "unknown-v1/1", "then"), hello(5, "joined-v1/1", "then"),
			hello(6, "broken-v1/1", "then"), {ID: 7, Workload: "details-v2/1", Dialled: "www.googleapis.com", Port: 80, Sniffed: policy.HTTP, Verdict: record.Denied, Reason: refusal.RequestMalformed, Snapshot: "lost"},
		},
	}
	past := remembering{map[string]*wire.Snapshot{"then": then}, map[string]wire.Workload{
		"left-v1/1": {Instance: "left-v1/1", Namespace: "default"}, "broken-v1/1": {Instance: "broken-v1/1", Namespace: "broken"},
	}}
	config := Config{Census: plane, Data: plane, Compiler: &fakeCompiler{}, Past: past, Rules: func() (int64, int) { return 7, 3 }}
	server := httptest.NewServer(NewHandler(config))
	t.Cleanup(server.Close)
	for id, want := range map[string]struct{ since, verdict, now string }{
		"1": {"Then it was denied (no-rule); by today's rules it is allowed by egress-rule/default/rule: egress-rule/default/rule was changed since.", "then", "allow"},
		"2": {"The rules of then, version lost, cannot be asked again: it is not kept. Then it was denied (no-rule); by today's rules it is allowed by egress-rule/default/rule.", "lost", "allow"},
		"3": {"The workload is gone: today's rules are those that another like it would be given. The rules have changed since, and say the same of it: it is denied (no-rule).", "then", ""},
		"4": {"The workload is gone, and it is not known by which rules it would be decided today.", "then", ""},
		"5": {"The workload runs no rules yet: today's are those that it will be given. The rules have changed since, and say the same of it: it is denied (no-rule).", "then", ""},
		"6": {"Today's rules are not known: cannot be compiled.", "then", ""},
		"7": {"", "lost", ""},
	} {
		var opened Opened
		code, said := get(t, server, WhyPath+"/000000000000000"+id, &opened)
		now := ""
		if opened.Now != nil {
			now = opened.Now.Verdict
		}
		if code != http.StatusOK || opened.Since != want.since || opened.Snapshot != want.verdict || now != want.now || opened.Verdict != "deny" {
			t.Errorf("%s: %d %s: %q of version %q, now %q, want %+v", id, code, said, opened.Since, opened.Snapshot, now, want)
		}
	}
	config.Past = nil
	forgetful := httptest.NewServer(NewHandler(config))
	t.Cleanup(forgetful.Close)
	var opened Opened
	if code, said := get(t, forgetful, WhyPath+"/0000000000000001", &opened); code != http.StatusOK || !strings.Contains(opened.Since, "this server keeps no versions") {
		t.Errorf("%d %s: %q", code, said, opened.Since)
	}
}
