package push

import (
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"sluice.dev/sluice/internal/wire"
	"sluice.dev/sluice/internal/wire/stream"
)

func TestOtherProxiesLearnBySnapshotWhichEndpointsAreReady(t *testing.T) {
	p := startPlane(t, "", newStore())
	starting := details("v1")
	since := time.Now().UTC().Truncate(time.Millisecond)
	starting.Unready = []wire.Unready{{Port: 9080, Since: since}}
	server := join(t, p.client(nil), starting)
	older := join(t, p.client(nil), details("v2")) // it never says anything of its ports
	until(t, older, func(s *wire.Snapshot) bool {
		return len(endpointsOf(s, "details.default.svc.cluster.local")) == 2
	})
	caller := join(t, p.client(nil), wire.Workload{Service: "caller", Namespace: "default", Level: "sandbox"})
	unready := func(want int) func(s *wire.Snapshot) bool {
		return func(s *wire.Snapshot) bool {
			for _, of := range s.Endpoints {
				for _, e := range of.Endpoints {
					switch {
					case e.Instance == "details-v2/1" && len(e.Unready) > 0:
						t.Errorf("one that reports nothing is not ready: %+v", e)
					case e.Instance == "details-v1/1":
						return len(e.Unready) == want && (want == 0 || e.Unready[0].Since.Equal(since) && e.Unready[0].Port == 9080)
					}
				}
			}
			return false
		}
	}
	until(t, caller, unready(1))
	if err := server.Report(nil); err != nil {
		t.Fatal(err)
	}
	until(t, caller, unready(0))
	for _, status := range p.server.Workloads() {
		if len(status.Unready) > 0 {
			t.Errorf("status: %+v", status)
		}
	}
	if err := server.Report([]wire.Unready{{Port: 9080, Since: since}}); err != nil {
		t.Fatal(err)
	}
	until(t, caller, unready(1))
}

// Status says of each workload whether its snapshot knows everybody who is there, though
// a change of who is there changes nothing for it.
func TestStatusSaysWhetherASnapshotKnowsEverybody(t *testing.T) {
	p := startPlane(t, "", newStore())
	for _, member := range []*stream.Membership{join(t, p.client(nil), details("v1")), join(t, p.client(nil), details("v2"))} {
		until(t, member, func(s *wire.Snapshot) bool {
			return len(endpointsOf(s, "details.default.svc.cluster.local")) == 2
		})
	}
	eventually := func(what string) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			now, behind := p.registry.Number(), 0
			for _, status := range p.server.Workloads() {
				if status.Census < now {
					behind++
				}
			}
			if behind == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d snapshots are older than census %d: %+v", what, behind, now, p.server.Workloads())
			}
		}
	}
	eventually("after two joined")
	before := p.server.Workloads()[0].AckedVersion
	job := join(t, p.client(nil), wire.Workload{Namespace: "default", Level: "sandbox", Labels: map[string]string{"job": "nightly"}})
	until(t, job, func(s *wire.Snapshot) bool { return true })
	eventually("after one joined that serves nothing")
	if after := p.server.Workloads()[0].AckedVersion; after != before {
		t.Errorf("a workload without a service changed a snapshot of others: %s, then %s", before, after)
	}
}

func TestAReadinessThatMakesNoSenseEndsTheStreamWithTheReason(t *testing.T) {
	p := startPlane(t, "", newStore())
	opened := open(t, p)
	if err := opened.Send(firstRequest(t, details("v1"))); err != nil {
		t.Fatal(err)
	}
	readiness := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: stream.ReadinessType, Node: firstRequest(t, details("v1")).Node}
	readiness.Node.Metadata.Fields = map[string]*structpb.Value{"format": structpb.NewNumberValue(7)}
	if err := opened.Send(readiness); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := opened.Recv(); err != nil {
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "the readiness of a workload has format 7") {
				t.Errorf("the stream ended with %v", err)
			}
			return
		}
	}
}
