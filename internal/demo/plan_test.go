package demo

import (
	"os/exec"
	"strings"
	"testing"
)

func TestEveryCommandCanBePastedIntoAShell(t *testing.T) {
	p := places{binaries: "/opt/my bin", private: "/run/sluice/demo", public: "/tmp/demo's"}
	all := append(allProcesses(p, Config{Samples: "/opt/my samples"}, portsOf("127.0.0.1:8080")), detailsV2(p, false, false), detailsV2(p, true, false))
	for _, each := range all {
		out, err := exec.Command("sh", "-c", "set -- "+each.command()+`; printf '%s\n' "$@"`).Output()
		if err != nil {
			t.Errorf("%s: %v", each.command(), err)
			continue
		}
		want := strings.Join(append(append([]string(nil), each.env...), each.argv...), "\n") + "\n"
		if string(out) != want {
			t.Errorf("a shell reads %q, want %q", out, want)
		}
	}
}

func TestTheRealInternetStartsNoSmallOne(t *testing.T) {
	for _, each := range allProcesses(places{}, Config{Real: true}, portsOf("127.0.0.1:8080")) {
		if text := each.command(); strings.Contains(text, "simnet") || strings.Contains(text, "egress-sockets") {
			t.Errorf("it would start %s", text)
		}
	}
}
