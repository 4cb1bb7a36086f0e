package proxy

import (
	"testing"
)

// ledSteadily is requests that route rules of hosts outside are about, by what becomes of them.
var ledSteadily = map[string]struct{ dialled, spec string }{
	"to the host itself":         {"old.example.com", "appendHeaders: {x-a: a}\nhttpReqTimeout: {simpleTimeout: {timeout: 7s}}\nhttpReqRetries: {simpleRetry: {attempts: 3, perTryTimeout: 2s}}"},
	"by another path":            {"old.example.com", "match: {request: {headers: {uri: {prefix: /books/}}}}\nrewrite: {uri: /b/}"},
	"by another name":            {"old.example.com", "rewrite: {authority: 'new.example.com:9080'}"},
	"to another host":            {"old.example.com", "route: [{destination: {service: new.example.com}}]"},
	"to a service":               {"old.example.com", "route: [{destination: {name: details}}]"},
	"from a service to a host":   {toDetails, "route: [{destination: {service: new.example.com}}]"},
	"from a service to a rename": {toDetails, "rewrite: {authority: 'new.example.com:9080'}\nroute: [{destination: {service: new.example.com}}]"},
}

func newSteady(t testing.TB) *meshOf {
	n := newFakeNet(t)
	n.site("old.example.com", "93.184.216.34", 9080, steady)
	n.site("new.example.com", "93.184.216.35", 9080, steady)
	m := newMesh(t, n)
	m.service("details", steady)
	return m
}

// A steady request is decided about and led without an allocation, and what lets its
// connection live is not renewed for each.
func TestASteadyRequestThatARouteRuleLeadsOutAllocatesNothing(t *testing.T) {
	for what, x := range ledSteadily {
		t.Run(what, func(t *testing.T) {
			m := newSteady(t)
			m.routed(rules(t, "old.example.com:9080/http", "new.example.com:9080/http"), x.dialled+"|"+x.spec)
			once := repeating(t, m.dial(x.dialled, 9080), x.dialled+":9080")
			for range 50 {
				once()
			}
			if allocations := testing.AllocsPerRun(200, once); allocations >= 1 && !raceDetector {
				t.Errorf("%v allocations a request", allocations)
			}
			if f := m.lastFlow(); f.Route != "route-rule/default/r0" && f.Rule != "route-rule/default/r0" || f.Status != 200 {
				t.Errorf("no rule met it: %+v", f)
			}
		})
	}
}

// What a rule of a host outside costs is the difference to none.
func BenchmarkARequestThatARouteRuleLeadsOut(b *testing.B) {
	for what, x := range ledSteadily {
		b.Run(what, func(b *testing.B) {
			m := newSteady(b)
			m.routed(rules(b, "old.example.com:9080/http", "new.example.com:9080/http"), x.dialled+"|"+x.spec)
			once := repeating(b, m.dial(x.dialled, 9080), x.dialled+":9080")
			b.ReportAllocs()
			for b.Loop() {
				once()
			}
		})
	}
}
