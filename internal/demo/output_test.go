package demo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/control/inspect"
	"sluice.dev/sluice/internal/wire"
)

func TestALogHoldsWhatAProcessSaysUpToItsBound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice-proxy.log")
	o := newOutput(path)
	line := strings.Repeat("x", 1<<16-1) + "\n"
	for range 3*maxLog/len(line) + 1 {
		o.Write([]byte(line))
	}
	o.Write([]byte("the last words\n"))
	o.close()
	now, err := os.ReadFile(path)
	if err != nil || !strings.HasSuffix(string(now), "the last words\n") || len(now) > maxLog {
		t.Errorf("the log has %d bytes, %v", len(now), err)
	}
	before, err := os.ReadFile(path + ".1")
	if err != nil || len(before) > maxLog || len(before) < maxLog/2 {
		t.Errorf("the log before it has %d bytes, %v", len(before), err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 2 {
		t.Errorf("there are %v", left)
	}
	if !strings.HasSuffix(o.String(), "the last words") {
		t.Error("its last words are not kept for the error")
	}
}

func TestALogThatCannotBeWrittenHoldsNoProcessUp(t *testing.T) {
	o := newOutput(filepath.Join(t.TempDir(), "gone", "sluice-proxy.log"))
	if n, err := o.Write([]byte("words")); n != 5 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	o.close()
	if said := o.String(); !strings.Contains(said, "cannot be written") || !strings.HasSuffix(said, "words") {
		t.Errorf("said %q", said)
	}
}

func TestADemoIsReadyOnceAllServeAndKnowEachOther(t *testing.T) {
	var p places
	ready := func() *inspect.Status {
		s := &inspect.Status{Census: 9}
		for _, name := range append([]string{ingressApp}, names(p)...) {
			w := inspect.WorkloadStatus{Connected: true, AckedVersion: "a", Census: 9}
			w.Workload = wire.Workload{Instance: name + "/1", Level: "sandbox", Labels: map[string]string{"app": name}}
			s.Workloads = append(s.Workloads, w)
		}
		return s
	}
	for want, change := range map[string]func(s *inspect.Status){
		"": func(s *inspect.Status) {
			s.Workloads = append(s.Workloads, inspect.WorkloadStatus{Workload: wire.Workload{Instance: "details-v2/1"}}) // the user's, at once
		},
		"details-v1 has not joined":                       func(s *inspect.Status) { s.Workloads = append(s.Workloads[:1], s.Workloads[2:]...) },
		"istio-ingress has not joined":                    func(s *inspect.Status) { s.Workloads = s.Workloads[1:] },
		"istio-ingress has no rules yet":                  func(s *inspect.Status) { s.Workloads[0].AckedVersion = "" },
		"ratings-v1 has no rules yet":                     func(s *inspect.Status) { s.Workloads[2].Connected = false },
		"details-v1 does not serve yet":                   func(s *inspect.Status) { s.Workloads[1].Unready = []wire.Unready{{Port: 9080}} },
		"productpage-v1 does not know all the others yet": func(s *inspect.Status) { s.Workloads[6].Census = 8 },
	} {
		s := ready()
		change(s)
		levels, missing := levelsOf(s, p)
		if missing != want || want == "" && levels["reviews-v3"] != "sandbox" {
			t.Errorf("%q, want %q; levels %v", missing, want, levels)
		}
	}
}

func names(p places) (all []string) {
	for _, s := range bookinfo(p) {
		all = append(all, s.name)
	}
	return all
}
