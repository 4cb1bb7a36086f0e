package clients

import (
	"fmt"
	"strings"
	"testing"
)

// asksAll sends each question by UDP to the name server and reads the answers: the
// response code, how many answers there are, and the addresses.
const asksAll = `
import json, re, socket, struct, sys
server = re.search(r"nameserver\s+(\S+)", open("/etc/resolv.conf").read()).group(1)
out = []
for name, kind in json.loads(sys.argv[1]):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(60)
        s.connect((server, 53))
        q = b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\0"
        s.send(struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + q + struct.pack(">HH", kind, 1))
        head = struct.unpack(">HHHHHH", s.recv(4096)[:12])
        out.append([head[1] & 15, head[3]])
print(json.dumps(out))
`

// glibc waits 15 s for an AAAA that is silent, c-ares gives up at a SERVFAIL of the
// first search name, musl at one of any: each question has an answer, and none fails.
func TestEveryQuestionIsAnsweredAndNoneOfASearchListFails(t *testing.T) {
	const (
		a, aaaa, https    = 1, 28, 65
		noError, nxDomain = 0, 3
	)
	s := newSandbox(t)
	var questions, want [][2]any
	ask := func(name string, kind, code, answers int) {
		questions = append(questions, [2]any{name, kind})
		want = append(want, [2]any{code, answers})
	}
	for _, name := range []string{"www.example.com", "evil.example.net", "localhost"} {
		ask(name, a, noError, 1)
		ask(name, aaaa, noError, 1)
		ask(name, https, noError, 0)
	}
	for _, suffix := range []string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local"} {
		for _, kind := range []int{a, aaaa, https} {
			ask("www.example.com."+suffix, kind, nxDomain, 0)
		}
	}
	var got [][2]any
	s.python(t, "www.example.com:80", asksAll, questions, &got)
	for i, q := range questions {
		if fmt.Sprint(got[i]) != fmt.Sprint(want[i]) {
			t.Errorf("%v: code and answers %v, want %v", q, got[i], want[i])
		}
	}
}

// AI_ADDRCONFIG asks nothing where loopback has the only addresses.
func TestAResolverThatLooksForAddressesOfTheMachineAsks(t *testing.T) {
	s := newSandbox(t)
	r := s.run(t, "www.example.com:80", client(t, "getent"), "ahostsv4", "www.example.com")
	if r.Code != 0 || !strings.HasPrefix(r.Stdout, "198.19.") {
		t.Errorf("getent: exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
	}
	var found []string
	s.python(t, "www.example.com:80", `
import json, socket
print(json.dumps([a[4][0] for a in socket.getaddrinfo("www.example.com", 80, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)]))`, nil, &found)
	if len(found) != 2 {
		t.Errorf("AI_ADDRCONFIG finds %v, want an address of each family", found)
	}
}
