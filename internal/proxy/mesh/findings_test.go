package mesh

import (
	"testing"
	"time"
)

func TestWhoSpeaksFirstIsKnownByThePortAndRememberedForTenMinutes(t *testing.T) {
	var f findings
	start := time.Unix(1_000_000, 0)
	db, mail := Target{Service: details, Port: 3300}, Target{Service: details, Port: 25}
	expect := func(to Target, after time.Duration, want side) {
		t.Helper()
		if got := f.expect(to, start.Add(after)); got != want {
			t.Errorf("%v after %v: %v, want %v", to, after, got, want)
		}
	}
	for _, port := range []uint16{21, 22, 25, 110, 143, 587, 3306} {
		expect(Target{Service: reviews, Port: port}, 0, server)
	}
	for _, port := range []uint16{0, 53, 80, 443, 5432, 6379, 8080, 9080, 27017} {
		expect(Target{Service: reviews, Port: port}, 0, unknown)
	}
	f.note(db, server, start)
	expect(db, 0, server)
	expect(Target{Service: reviews, Port: 3300}, 0, unknown)
	expect(db, FindingTime-1, server)
	expect(db, FindingTime, unknown)
	f.note(db, server, start.Add(5*time.Minute)) // seen again
	expect(db, FindingTime, server)
	f.note(db, client, start.Add(6*time.Minute))
	expect(db, FindingTime, client)
	f.note(mail, client, start) // what was seen counts before the number
	expect(mail, 0, client)
	expect(mail, FindingTime, server)
}

func TestWhatIsRememberedOfPortsIsBounded(t *testing.T) {
	var f findings
	now := time.Unix(1_000_000, 0)
	for i := range 2 * MaxFindings {
		now = now.Add(time.Millisecond)
		f.note(Target{Service: details, Port: uint16(i + 1)}, server, now)
		if len(f.ports) > MaxFindings {
			t.Fatalf("%d, the bound is %d", len(f.ports), MaxFindings)
		}
	}
	if got := f.expect(Target{Service: details, Port: 2 * MaxFindings}, now); got != server {
		t.Error("the last is not remembered")
	}
	if got := f.expect(Target{Service: details, Port: MaxFindings}, now); got != unknown {
		t.Error("the oldest is remembered")
	}
	f.note(Target{Service: reviews, Port: 1}, server, now.Add(FindingTime))
	if len(f.ports) != 1 {
		t.Errorf("%d of which all but one are over", len(f.ports))
	}
}
