package test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice.dev/sluice/test/mesh"
	"sluice.dev/sluice/test/mesh/agent"
	"sluice.dev/sluice/test/simnet"
)

// Of the third workload, which two that take all they can get must not disturb.
const (
	requestsPerSecond = 300
	requestsInAll     = 1500
)

// besideTwoThatTakeAll starts two workloads that do something again and again, and
// expects that each request of a third, whose next ones do not wait for it, is answered,
// where the proxy may open 1,024 descriptors.
func besideTwoThatTakeAll(t *testing.T, take func(t *testing.T, w *mesh.Workload, round int)) {
	eachMachineryWithin(t, 1024, func(t *testing.T, m *machinery) {
		m.create(t, third)
		quiet := m.StartWorkload(t, "--service", "third", "--version", "v1")
		m.opens(t, quiet, "http://www.example.com/")
		stop := make(chan struct{})
		var takers, begun sync.WaitGroup
		for number := range 2 {
			w := m.StartWorkload(t, "--service", "flooding", "--version", fmt.Sprint("v", number+1))
			begun.Add(1)
			takers.Go(func() {
				for round := number; ; round += 2 {
					take(t, w, round)
					if round < 2 {
						begun.Done()
					}
					select {
					case <-stop:
						return
					case <-w.Ended():
						return
					default:
					}
				}
			})
		}
		begun.Wait()
		a := quiet.Do(t, agent.Ask{Do: agent.Pace, URL: "http://www.example.com/", Rate: requestsPerSecond, Count: requestsInAll, Wait: 30 * time.Second})
		t.Logf("%d of %d were answered: %s", a.Code, requestsInAll, a.Body)
		if a.Code != requestsInAll {
			t.Errorf("one was not: %s", a.Error)
		}
		if said := m.proxy.Said(); strings.Contains(said, "too many open files") {
			t.Errorf("the proxy ran out of descriptors:\n%s", said)
		}
		close(stop)
		takers.Wait()
	})
}

// keep opens connections, lets them be for a moment and drops them.
func keep(t *testing.T, w *mesh.Workload, address, send string, n int) {
	w.Do(t, agent.Ask{Do: agent.Keep, Address: address, Send: []byte(send), Count: n, Wait: time.Second})
	time.Sleep(500 * time.Millisecond)
	w.Do(t, agent.Ask{Do: agent.Drop})
}

func TestIdleConnectionsOfTwoWorkloadsTakeNothingFromAThird(t *testing.T) {
	besideTwoThatTakeAll(t, func(t *testing.T, w *mesh.Workload, round int) {
		if round%4 < 2 { // idle after a request, or from the start
			keep(t, w, "www.example.com:80", "GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n", 1200)
		} else {
			keep(t, w, "www.example.com:80", "", 1200)
		}
	})
}

func TestConnectionsKeptAliveToManyHostsTakeNothingFromAThird(t *testing.T) {
	besideTwoThatTakeAll(t, func(t *testing.T, w *mesh.Workload, round int) {
		host := fmt.Sprintf("h%d-%%d.%s", round%2, simnet.AnyZone)
		keep(t, w, host+":80", "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n", 600)
	})
}

func TestSlowHellosOfTwoWorkloadsTakeNothingFromAThird(t *testing.T) {
	hello := string([]byte{22, 3, 1, 64, 0, 1, 0, 63, 252, 3, 3}) + strings.Repeat("x", 12<<10)
	besideTwoThatTakeAll(t, func(t *testing.T, w *mesh.Workload, round int) {
		keep(t, w, "www.example.com:443", hello, 600)
	})
}

func TestProofsOfTwoWorkloadsTakeNothingFromAThird(t *testing.T) {
	besideTwoThatTakeAll(t, func(t *testing.T, w *mesh.Workload, round int) {
		w.Do(t, agent.Ask{Do: agent.Visit, URL: fmt.Sprintf("https://r%dn%%d.%s/", round, simnet.AnyZone), Count: 300, Wait: 10 * time.Second})
	})
}
