package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// asksSRV asks the sandbox's DNS server twice for the SRV records of a name.
const asksSRV = `for i in 1 2; do
exec 3<>/dev/udp/198.18.0.1/53
printf '\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x08_mongodb\x04_tcp\x08cluster0\x07example\x03net\x00\x00\x21\x00\x01' >&3
head -c 12 <&3 | od -An -tx1
done`

func TestAQuestionThatDNSCannotAnswerIsSaidAfterTheCommand(t *testing.T) {
	eachUser(t, func(t *testing.T, a *alone) {
		path := filepath.Join(a.Data, "questions.jsonl")
		r := a.run(t, "--report", path, "--", "bash", "-c", asksSRV)
		if r.Code != 0 || strings.Count(r.Stdout, "12 34 81 80 00 01 00 00") != 2 {
			t.Fatalf("exit %d, answers %q, %s", r.Code, r.Stdout, r.Stderr)
		}
		const line = "sluice: not reached _mongodb._tcp.cluster0.example.net by its SRV records (SRV records are answered for hosts that a rule allows: the answer was empty, and no rule names the host)\n"
		if r.Stderr != line {
			t.Errorf("it says\n%swant\n%s", r.Stderr, line)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var flow struct{ Kind, Outcome, Destination, Question, Reason, Transport string }
		if err := json.Unmarshal([]byte(strings.Split(string(text), "\n")[1]), &flow); err != nil {
			t.Fatal(err)
		}
		flow.Transport = ""
		want := flow
		want.Kind, want.Outcome, want.Destination, want.Question, want.Reason = "flow", "not-reached", "_mongodb._tcp.cluster0.example.net", "SRV", "dns-type-not-supported"
		if flow != want {
			t.Errorf("the report has %+v", flow)
		}
	})
}
