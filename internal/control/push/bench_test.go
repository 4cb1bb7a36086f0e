package push

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice.dev/sluice/api"
	"sluice.dev/sluice/internal/proxy/snapshot"
	"sluice.dev/sluice/internal/wire/stream"
)

// BenchmarkChangeUntilAHundredWorkloadsRunIt is the time from a change in the
// store until every workload of one proxy swapped it in and said so, with a pause
// between changes as between a user's commands. It reports the median and p99.
func BenchmarkChangeUntilAHundredWorkloadsRunIt(b *testing.B) {
	for _, rules := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("%dRules", rules), func(b *testing.B) { benchmarkChange(b, rules, 100) })
	}
}

func benchmarkChange(b *testing.B, rules, workloads int) {
	var objects []api.Object
	for i := range rules {
		objects = append(objects, policyFor(fmt.Sprintf("rule-%05d", i), fmt.Sprintf("h%d.example.com", i), fmt.Sprintf("v%d", i%workloads)))
	}
	store := newStore(objects...)
	p := startPlane(b, "", store)
	client, err := stream.NewClient(stream.Config{Dial: stream.DialUnix(p.path, nil), Proxy: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	var builder snapshot.Builder
	var following sync.WaitGroup
	defer following.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for i := range workloads {
		m, err := client.Join(ctx, details(fmt.Sprintf("v%d", i)))
		if err != nil {
			b.Fatal(err)
		}
		following.Go(func() {
			snapshot.Follow(ctx, snapshot.FollowConfig{Source: m, Holder: snapshot.NewHolder(snapshot.HolderConfig{}), Builder: &builder, View: snapshot.View{Namespace: "default"}})
		})
	}
	for len(p.server.Workloads()) < workloads {
		time.Sleep(time.Millisecond)
	}
	var took []time.Duration
	for i := range b.N {
		objects = slices.Clone(objects)
		objects[0] = policyFor("rule-00000", fmt.Sprintf("changed%d.example.com", i), "")
		time.Sleep(2 * compileAtMost)
		started := time.Now()
		if err := p.waitAcked(ctx, store.set(objects...)); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(started))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-p50")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "ms-p99")
	b.ReportMetric(0, "ns/op")
}
