package wire

import (
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)

func TestWhatIsNotReadyIsSaidForPeople(t *testing.T) {
	for want, x := range map[string]struct {
		lasting time.Duration
		why     string
	}{
		"not listening on 8000 for 12 s":                               {12*time.Second + 900*time.Millisecond, ""},
		"not listening on 8000 for 2 min 5 s":                          {125 * time.Second, ""},
		"not listening on 8000 for 26 h 3 min":                         {26*time.Hour + 3*time.Minute, ""},
		"not listening on 8000 for 0 s":                                {-time.Minute, ""}, // of a clock that is ahead
		"not ready on 8000 for 3 s: GET /health was answered with 503": {3 * time.Second, "GET /health was answered with 503"},
	} {
		u := Unready{Port: 8000, Since: noon.Add(-x.lasting), Why: x.why}
		if got := u.Text(noon); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestAWorkloadThatSaysNothingOfItsPortsIsReady(t *testing.T) {
	w, err := Workload{Service: "details", Ports: []uint16{80, 9080}}.Normalize()
	if err != nil || len(w.Unready) != 0 || UnreadyOn(w.Unready, 80) != nil {
		t.Errorf("%+v, %v", w, err)
	}
	w, err = Workload{Ports: []uint16{9080, 80}, Unready: []Unready{{Port: 9080, Since: noon}, {Port: 80, Since: noon}}}.Normalize()
	if err != nil || len(w.Unready) != 2 || w.Unready[0].Port != 80 || UnreadyOn(w.Unready, 9080) == nil || UnreadyOn(w.Unready, 81) != nil {
		t.Errorf("%+v, %v", w, err)
	}
}

func TestWhatIsSaidOfPortsIsCheckedAndBounded(t *testing.T) {
	var many []Unready
	var ports []uint16
	for i := range MaxPorts + 1 {
		ports = append(ports, uint16(i+1))
		many = append(many, Unready{Port: uint16(i + 1)})
	}
	for want, unready := range map[string][]Unready{
		"not one on which the workload serves": {{Port: 9999}},
		"more than once":                       {{Port: 1}, {Port: 2}, {Port: 1}},
		"more than 64":                         many,
		"at most 128 are allowed":              {{Port: 1, Why: strings.Repeat("x", MaxUnreadyWhy+1)}},
		"printable ASCII":                      {{Port: 1, Why: "a\nb"}},
	} {
		if got, err := NormalizeUnready(unready, ports); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", want, got, err)
		}
	}
	if _, err := (Workload{Ports: []uint16{80}, Unready: []Unready{{Port: 81}}}).Normalize(); err == nil {
		t.Error("a workload may say of a port that it does not serve that it is not ready")
	}
	if got, err := NormalizeUnready(many[:MaxPorts], ports); err != nil || !SameUnready(got, many[:MaxPorts]) {
		t.Errorf("at the bound: %v", err)
	}
	if SameUnready([]Unready{{Port: 1}}, []Unready{{Port: 1, Why: "x"}}) || SameUnready([]Unready{{Port: 1}}, nil) {
		t.Error("two that differ are the same")
	}
}
