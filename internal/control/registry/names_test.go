package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/wire"
)

// clock is a time that a test moves.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func newClock() *clock { return &clock{time.Unix(1_000_000, 0)} }

// own is this process: a proxy that lives.
func own(t *testing.T) Process {
	t.Helper()
	p := ProcessOf(os.Getpid())
	if p.PID != os.Getpid() || p.Started == 0 {
		t.Fatalf("this process is %+v", p)
	}
	return p
}

// ended is a process that ended.
func ended(t *testing.T) Process {
	t.Helper()
	c := exec.Command("cat")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	p := ProcessOf(c.Process.Pid)
	if p.Ended() {
		t.Error("a living process is said to have ended")
	}
	in.Close()
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	return p
}

func joinFrom(t *testing.T, r *Registry, instance, session string, owner Process) *Member {
	t.Helper()
	w := details()
	w.Instance = instance
	member, err := r.Join(w, session, owner)
	if err != nil {
		t.Fatal(err)
	}
	return member
}

func TestANameIsKeptForAWorkloadWhoseStreamWasLost(t *testing.T) {
	clock := newClock()
	r := New(Config{Now: clock.Now})
	lost := joinFrom(t, r, "", "secret", own(t))
	lost.Lose()
	if got := joinFrom(t, r, "", "fresh", own(t)).Workload().Instance; got != "details-v2/2" {
		t.Errorf("a new workload is called %s", got)
	}
	if got := joinFrom(t, r, "details-v2/1", "another", own(t)).Workload().Instance; got != "details-v2/3" {
		t.Errorf("another one that asked for the name is called %s", got)
	}
	if got := joinFrom(t, r, "details-v2/1", "secret", own(t)).Workload().Instance; got != "details-v2/1" {
		t.Errorf("the one that came back is called %s", got)
	}
}

func TestANameIsKeptForABoundedTime(t *testing.T) {
	clock := newClock()
	r := New(Config{Now: clock.Now})
	joinFrom(t, r, "", "secret", own(t)).Lose()
	clock.now = clock.now.Add(keepName)
	if got := joinFrom(t, r, "", "fresh", own(t)).Workload().Instance; got != "details-v2/1" {
		t.Errorf("after %s a new workload is called %s", keepName, got)
	}
}

func TestANameIsNotKeptForAProxyThatEnded(t *testing.T) {
	r := New(Config{})
	joinFrom(t, r, "", "secret", ended(t)).Lose()
	if got := joinFrom(t, r, "", "fresh", own(t)).Workload().Instance; got != "details-v2/1" {
		t.Errorf("a new workload is called %s", got)
	}
}

func TestTheNamesThatAreKeptAreBounded(t *testing.T) {
	r := New(Config{MaxWorkloads: 2})
	for range 5 {
		joinFrom(t, r, "", "secret", own(t)).Lose()
	}
	if n := len(r.kept.names); n != 2 {
		t.Errorf("%d names are kept, not 2", n)
	}
}

// after is a registry as the next server has it.
func after(t *testing.T, r *Registry, config Config) *Registry {
	t.Helper()
	b, err := json.Marshal(r.Memory())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "secret") {
		t.Errorf("a session is shown: %s", b)
	}
	if err := json.Unmarshal(b, &config.Memory); err != nil {
		t.Fatal(err)
	}
	return New(config)
}

func isHome(r *Registry) bool {
	select {
	case <-r.Home():
		return true
	default:
		return false
	}
}

func TestTheNextServerKeepsTheNamesOfAllThatLived(t *testing.T) {
	before := New(Config{})
	joinFrom(t, before, "", "secret of 1", own(t))
	joinFrom(t, before, "", "secret of 2", own(t)).Lose()
	joinFrom(t, before, "", "secret of 3", ended(t))
	joinFrom(t, before, "", "secret of 4", own(t)).Leave()
	r := after(t, before, Config{})
	if len(r.Now().Workloads) != 0 {
		t.Error("somebody lives who did not join")
	}
	// A proxy that comes first takes the numbers of those alone that are gone.
	for _, want := range []string{"details-v2/3", "details-v2/4"} {
		if got := joinFrom(t, r, "", "fresh", own(t)).Workload().Instance; got != want {
			t.Errorf("a new workload is called %s, not %s", got, want)
		}
	}
	for n := 1; n <= 2; n++ {
		if isHome(r) {
			t.Errorf("all are back before %d", n)
		}
		instance := fmt.Sprint("details-v2/", n)
		if got := joinFrom(t, r, instance, fmt.Sprint("secret of ", n), own(t)).Workload().Instance; got != instance {
			t.Errorf("%s came back as %s", instance, got)
		}
	}
	if !isHome(r) {
		t.Error("all are back and still awaited")
	}
	if !isHome(New(Config{})) {
		t.Error("without a memory somebody is awaited")
	}
}

func TestAServiceIsKnownForADayAfterItsLastWorkloadLeft(t *testing.T) {
	clock := newClock()
	r := New(Config{Now: clock.Now})
	serving := details()
	serving.Ports = []uint16{9080}
	first, second := join(t, r, serving, "a"), join(t, r, details(), "b")
	join(t, r, wire.Workload{Namespace: "default", Labels: map[string]string{"app": "ingress"}}, "c").Leave()
	first.Leave()
	second.Leave()
	known := func(r *Registry) string { return fmt.Sprint(r.Now().Past) }
	want := fmt.Sprint([]wire.Workload{{Namespace: "default", Service: "details", Ports: []uint16{9080}}})
	if got := known(r); got != want {
		t.Errorf("known is %s, want %s", got, want)
	}
	clock.now = clock.now.Add(keepService - time.Second)
	if got := known(after(t, r, Config{Now: clock.Now})); got != want {
		t.Errorf("the next server knows %s", got)
	}
	clock.now = clock.now.Add(time.Second)
	if got := known(r); got != "[]" {
		t.Errorf("after a day %s is known", got)
	}
}

func TestAServiceThatLivedWhenTheServerEndedIsKnownToTheNext(t *testing.T) {
	clock := newClock()
	before := New(Config{Now: clock.Now})
	serving := details()
	serving.Ports = []uint16{9080}
	join(t, before, serving, "a")
	memory := before.Memory()
	clock.now = clock.now.Add(10 * keepService) // it was written down long ago
	if past := New(Config{Now: clock.Now, Memory: memory}).Now().Past; len(past) != 1 || !slices.Equal(past[0].Ports, serving.Ports) {
		t.Errorf("the next server knows %+v", past)
	}
}

func TestWhatAServiceSpokeIsKnownAfterItsLastWorkloadLeftAndAfterARestart(t *testing.T) {
	clock := newClock()
	r := New(Config{Now: clock.Now})
	declared := details()
	declared.Ports, declared.Protocols = []uint16{9080, 9443}, map[uint16]policy.Protocol{9080: policy.ProtocolHTTP}
	silent := details()
	silent.Ports = []uint16{9080, 9443} // it says nothing of what is spoken, as most do
	members := []*Member{join(t, r, declared, "a"), join(t, r, silent, "b"), join(t, r, details(), "c")}
	check := func(when string, r *Registry) {
		t.Helper()
		past := r.Now().Past
		if len(past) != 1 || !slices.Equal(past[0].Ports, declared.Ports) || !maps.Equal(past[0].Protocols, declared.Protocols) {
			t.Errorf("%s %+v is known", when, past)
		}
	}
	check("after a server that ended while it lived", after(t, r, Config{Now: clock.Now}))
	for _, member := range members {
		member.Leave()
	}
	check("after its last workload left", r)
	check("after a restart then", after(t, r, Config{Now: clock.Now}))
}

func TestTheServicesThatAreKnownAreBounded(t *testing.T) {
	clock := newClock()
	r := New(Config{Now: clock.Now})
	for i := range maxPast + 3 {
		clock.now = clock.now.Add(time.Second)
		join(t, r, wire.Workload{Service: fmt.Sprint("s", i), Namespace: "default"}, "s").Leave()
	}
	past := r.Now().Past
	if len(past) != maxPast || slices.ContainsFunc(past, func(w wire.Workload) bool { return w.Service == "s2" }) {
		t.Errorf("%d services are known, the oldest among them", len(past))
	}
}

func TestAMemoryOfNoSenseIsNotTakenOver(t *testing.T) {
	r := New(Config{MaxWorkloads: 2, Memory: Memory{
		Names: []KeptName{
			{Instance: ""}, {Instance: "details-v2"}, {Instance: "details-v2/0"}, {Instance: "/1"}, {Instance: "details-v2/1/1"},
			{Instance: "details-v2/1"}, {Instance: "details-v2/1"}, {Instance: "details-v2/2"}, {Instance: "details-v2/3"},
		},
		Services: []PastService{{Service: "../x"}, {Namespace: "default"}, {Service: "details", Ports: []uint16{0}}, {Service: "reviews", Left: time.Now().Add(time.Hour)}},
	}})
	if n := len(r.kept.names); n != 2 {
		t.Errorf("%d names are kept", n)
	}
	if past := r.Now().Past; len(past) != 1 || past[0].Service != "reviews" || past[0].Namespace != "default" {
		t.Errorf("known is %+v", past)
	}
}
