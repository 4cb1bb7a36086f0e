package test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/test/mesh"
	"sluice.dev/sluice/test/mesh/agent"
	"sluice.dev/sluice/test/simnet"
)

// exactNames are spelled out by a rule of the third workload.
var exactNames = []string{
	"www.example.com", "example.com", "www.googleapis.com", "fcm.googleapis.com", "www.google.com", "googleapis.com",
	"www.wikipedia.org", "en.wikipedia.org", "httpbin.org", "www.httpbin.org", "multi.example.com", "cdn.example.com",
}

// third are rules for a workload that two others must not disturb, and wildcards for
// those.
var third = `apiVersion: sluice.dev/v1alpha1
kind: EgressPolicy
metadata: {name: third}
spec:
  from: {labels: {app: third}}
  to: {hosts: [` + strings.Join(exactNames, ", ") + `], ports: [{port: 80, protocol: http}]}
---
apiVersion: sluice.dev/v1alpha1
kind: EgressPolicy
metadata: {name: flooding}
spec:
  from: {labels: {app: flooding}}
  to: {hosts: ["*.example.com", "*.` + simnet.SilentZone + `", "*.` + simnet.AnyZone + `"], ports: [{port: 80, protocol: http}, {port: 443, protocol: tls}]}
`

// besideTwoThatFlood runs what the third workload does beside two that do something
// without end, and expects that it notices nothing, and that its flows are still there
// when each of the two did it so many times more.
func besideTwoThatFlood(t *testing.T, more int, flood func(t *testing.T, w *mesh.Workload, number int)) {
	eachMachineryWithin(t, 1024, func(t *testing.T, m *machinery) {
		m.create(t, third)
		quiet := m.StartWorkload(t, "--service", "third", "--version", "v1")
		m.opens(t, quiet, "http://www.example.com/")
		stop := make(chan struct{})
		var floods sync.WaitGroup
		var rounds [2]atomic.Int64
		for number := range rounds {
			w := m.StartWorkload(t, "--service", "flooding", "--version", fmt.Sprint("v", number+1))
			floods.Go(func() {
				for round := 0; ; round++ {
					select {
					case <-stop:
						return
					default:
						flood(t, w, 2*round+number)
						rounds[number].Add(1)
					}
				}
			})
		}
		await := func(more int) {
			for number := range rounds {
				for target := rounds[number].Load() + int64(more); rounds[number].Load() < target && !t.Failed(); {
					time.Sleep(10 * time.Millisecond)
				}
			}
		}
		await(1)

		const each = 1000
		for range 3 {
			for _, name := range exactNames {
				if a := m.get(t, quiet, "http://"+name+"/"); a.Code != 200 {
					t.Errorf("%s: %d %s %s", name, a.Code, a.Body, a.Error)
				}
			}
		}
		request := "GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n"
		last := "GET /last HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n"
		a := quiet.Do(t, agent.Ask{Do: agent.Say, Address: "www.example.com:80", Send: []byte(strings.Repeat(request, each-1) + last)})
		if got := strings.Count(string(a.Body), "HTTP/1.1 200 OK\r\n"); got < each-1 { // of "/last" any answer is one
			t.Errorf("%d of %d requests were answered: %s", got, each, a.Error)
		}
		await(more)
		var lines []string
		mesh.Eventually(t, func() string {
			r := m.Sluice(t, "flows", "--last", fmt.Sprint(each-1), "-w", "third-v1") // the last one may have had no answer
			lines = strings.Split(strings.TrimSpace(r.Stdout), "\n")[1:]
			if r.Code != 0 || len(lines) < each-1 {
				return fmt.Sprintf("%d of its last %d flows are listed: exit %d, %s", len(lines), each-1, r.Code, r.Stderr)
			}
			// Records close one by one: until the last has, one of before is among so many.
			if of := slices.IndexFunc(lines, func(line string) bool { return !strings.Contains(line, "www.example.com") }); of >= 0 {
				return "still listed: " + lines[of]
			}
			return ""
		})
		for _, line := range []string{lines[0], lines[each/2], lines[each-2]} {
			id := strings.Fields(line)[9]
			if r := m.Sluice(t, "why", id); r.Code != 0 || !strings.Contains(r.Stdout, "www.example.com") {
				t.Errorf("why %s: exit %d, %s%s", id, r.Code, r.Stdout, r.Stderr)
			}
		}
		close(stop)
		floods.Wait()
	})
}

func eachMachineryWithin(t *testing.T, descriptors int, f func(t *testing.T, m *machinery)) {
	for _, user := range mesh.Users(t) {
		t.Run(user.Name, func(t *testing.T) {
			m := &machinery{Place: mesh.NewPlace(t, user)}
			m.net = m.StartInternet(t)
			m.server = m.StartServer(t)
			m.proxy = m.StartProxyWithin(t, descriptors, m.net)
			f(t, m)
		})
	}
}

func TestManyNamesOfTwoWorkloadsDoNotDisturbAThird(t *testing.T) {
	besideTwoThatFlood(t, 1, func(t *testing.T, w *mesh.Workload, number int) {
		w.Do(t, agent.Ask{Do: agent.Visit, URL: fmt.Sprintf("http://r%dn%%d.example.com/", number), Count: 100})
	})
}

func TestASilentZoneOfTwoWorkloadsDoesNotDisturbAThird(t *testing.T) {
	besideTwoThatFlood(t, 1, func(t *testing.T, w *mesh.Workload, number int) {
		w.Do(t, agent.Ask{Do: agent.Visit, URL: fmt.Sprintf("http://r%dn%%d.%s/", number, simnet.SilentZone), Count: 150})
	})
}

func TestPipelinedDenialsOfTwoWorkloadsDoNotDisturbAThird(t *testing.T) {
	denied := []byte(strings.Repeat("GET / HTTP/1.1\r\nHost: www.google.com\r\n\r\n", 100) + "GET / HTTP/1.1\r\nHost: www.google.com\r\nConnection: close\r\n\r\n")
	besideTwoThatFlood(t, record.RingSize/(4*101)+1, func(t *testing.T, w *mesh.Workload, number int) { // far more than the ring holds
		w.Do(t, agent.Ask{Do: agent.Say, Address: "www.google.com:80", Send: denied, Count: 4})
	})
}
