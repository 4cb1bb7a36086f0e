package stream

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"sluice.dev/sluice/internal/wire"
)

// said returns what the next request on a stream says of readiness.
func (p *played) said(t *testing.T) []wire.Unready {
	t.Helper()
	request := p.request(t)
	if request.GetTypeUrl() != ReadinessType {
		t.Fatalf("a request of %s", request.GetTypeUrl())
	}
	unready, err := DecodeReadiness(request.GetNode(), []uint16{9080})
	if err != nil {
		t.Fatal(err)
	}
	return unready
}

func TestAChangeOfReadinessIsReportedOnTheStreamAndInTheNextJoin(t *testing.T) {
	play(t, func(t *testing.T, server *scripted, client *Client) {
		m := joinDetails(t, client)
		p := <-server.streams
		p.request(t)
		since := time.Now().UTC()
		if err := m.Report([]wire.Unready{{Port: 9080, Since: since}}); err != nil {
			t.Fatal(err)
		}
		if got := p.said(t); len(got) != 1 || got[0].Port != 9080 || !got[0].Since.Equal(since) {
			t.Errorf("told %v", got)
		}
		if err := m.Report(nil); err != nil {
			t.Fatal(err)
		}
		if got := p.said(t); len(got) != 0 {
			t.Errorf("told %v", got)
		}
		// The server is lost, and what changes meanwhile is in the join.
		p.end <- errors.New("lost")
		synctest.Wait()
		if err := m.Report([]wire.Unready{{Port: 9080, Since: since, Why: "GET /health was answered with 500"}}); err != nil {
			t.Fatal(err)
		}
		join, err := DecodeNode((<-server.streams).request(t).GetNode())
		if err != nil || len(join.Workload.Unready) != 1 || join.Workload.Unready[0].Why == "" {
			t.Errorf("joined as %+v, %v", join.Workload, err)
		}
		if err := m.Report([]wire.Unready{{Port: 1}}); err == nil {
			t.Error("a port that is not served may be said not to be ready")
		}
	})
}

// A workload that begins and ceases to listen all the time does not make a snapshot for
// the whole mesh each time.
func TestAWorkloadThatFlapsIsReportedAtAPace(t *testing.T) {
	play(t, func(t *testing.T, server *scripted, client *Client) {
		m := joinDetails(t, client)
		p := <-server.streams
		p.request(t)
		told := make(chan []wire.Unready, 10_000)
		go func() {
			for {
				request, err := p.Recv()
				if err != nil {
					return
				}
				unready, _ := DecodeReadiness(request.GetNode(), []uint16{9080})
				told <- unready
			}
		}()
		const seconds = 10
		for i := range seconds * 1000 {
			var unready []wire.Unready
			if i%2 == 0 {
				unready = []wire.Unready{{Port: 9080, Since: time.Now()}}
			}
			if err := m.Report(unready); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		if err := m.Report([]wire.Unready{{Port: 9080, Since: time.Now(), Why: "the last"}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * wire.ReadinessEvery)
		if n := len(told); n < seconds || n > seconds+wire.ReadinessBurst+2 {
			t.Errorf("told %d times in %d s", n, seconds)
		}
		var last []wire.Unready
		for len(told) > 0 {
			last = <-told
		}
		if len(last) != 1 || last[0].Why != "the last" {
			t.Errorf("the last that was told is %v", last)
		}
	})
}

func TestWhatDoesNotSayReadinessIsRefused(t *testing.T) {
	metadata := func(json string) *corev3.Node {
		node := &corev3.Node{Metadata: new(structpb.Struct)}
		if err := node.Metadata.UnmarshalJSON([]byte(json)); err != nil {
			t.Fatal(err)
		}
		return node
	}
	for want, node := range map[string]*corev3.Node{
		"no node with metadata":           {},
		"has format 7":                    metadata(`{"format":7}`),
		"unknown field":                   metadata(`{"format":1,"unready":[],"draining":true}`),
		"not one on which":                metadata(`{"format":1,"unready":[{"port":1,"since":"2026-11-03T12:00:00Z"}]}`),
		"more than 65536":                 metadata(`{"format":1,"unready":[{"port":9080,"why":"` + strings.Repeat("x", MaxJoin) + `"}]}`),
		"cannot unmarshal number 9080080": metadata(`{"format":1,"unready":[{"port":9080080}]}`),
	} {
		if got, err := DecodeReadiness(node, []uint16{9080}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", want, got, err)
		}
	}
}
