package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/test/mesh"
	"sluice.dev/sluice/test/mesh/agent"
)

// alone is a place with a small internet, in which commands run with a proxy of
// their own.
type alone struct {
	*mesh.Place
	net  *mesh.Internet
	curl string
}

const (
	books    = "/books/v1/volumes?q=isbn:0486424618"
	hostile  = "evil.example.net"
	hostile4 = "45.33.32.156"
)

func eachUser(t *testing.T, f func(t *testing.T, a *alone)) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("curl is missing: under CI it must be there")
		}
		t.Skip("curl is missing")
	}
	for _, user := range mesh.Users(t) {
		t.Run(user.Name, func(t *testing.T) {
			place := mesh.NewPlace(t, user)
			f(t, &alone{Place: place, net: place.StartInternet(t), curl: curl})
		})
	}
}

// run runs a command alone, with flags of `sluice run` before "--".
func (a *alone) run(t *testing.T, args ...string) mesh.Result {
	t.Helper()
	return a.Sluice(t, append([]string{"run", "--egress-sockets", a.net.Sockets, "--upstream-ca", a.net.CA, "--resolver", "8.8.8.8"}, args...)...)
}

// get runs curl alone, with the rules that allow says.
func (a *alone) get(t *testing.T, allow []string, curl ...string) mesh.Result {
	t.Helper()
	var args []string
	for _, rule := range allow {
		args = append(args, "--allow", rule)
	}
	args = append(args, "--", a.curl, "-sS", "--max-time", "60", "--cacert", a.net.CA)
	return a.run(t, append(args, curl...)...)
}

func TestACommandReachesWhatIsAllowedAndIsToldWhatIsNot(t *testing.T) {
	eachUser(t, func(t *testing.T, a *alone) {
		allow := []string{"*.googleapis.com:443"}
		if r := a.get(t, allow, "https://www.googleapis.com"+books); r.Code != 0 || !strings.Contains(r.Stdout, "volumeInfo") || r.Stderr != "" {
			t.Errorf("allowed by TLS: exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
		}
		if r := a.get(t, allow, "http://www.googleapis.com:443"+books); r.Code != 0 || !strings.Contains(r.Stdout, "volumeInfo") {
			t.Errorf("allowed by plain HTTP on 443: exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
		}
		verified := 0
		for _, h := range a.net.Handshakes(t, "www.googleapis.com") {
			if h.Error == "" && h.SNI == "www.googleapis.com" && h.TLSVersion == "TLS 1.3" {
				verified++
			}
		}
		if verified < 2 {
			t.Errorf("the service saw %d TLS 1.3 handshakes with its name, want one for each way at least", verified)
		}
		r := a.get(t, allow, "https://www.example.com/")
		if r.Code != 35 || !strings.Contains(r.Stderr, "alert") { // 28, had it taken long
			t.Errorf("denied: exit %d after %v, %q; want curl's own 35 at once", r.Code, r.Took, r.Stderr)
		}
		if !strings.Contains(r.Stderr, "sluice: denied www.example.com:443") || !strings.Contains(r.Stderr, "--allow 'www.example.com:443'") {
			t.Errorf("the line after the command says %q", r.Stderr)
		}
		if n := len(a.net.Connections(t, "www.example.com")); n != 0 {
			t.Errorf("the denied site saw %d connections", n)
		}
	})
}

// Each address has a flag and a variable.
func TestAResolverIsSaidByAVariableToo(t *testing.T) {
	eachUser(t, func(t *testing.T, a *alone) {
		t.Setenv("SLUICE_EGRESS_SOCKETS", a.net.Sockets)
		t.Setenv("SLUICE_UPSTREAM_CA", a.net.CA)
		command := []string{"run", "--allow", "www.googleapis.com", "--", a.curl, "-sS", "--max-time", "60", "--cacert", a.net.CA, "https://www.googleapis.com" + books}
		for variable, reached := range map[string]bool{"8.8.8.8": true, "192.0.2.53:5353, 8.8.8.8:53": true, "192.0.2.53:5353": false} {
			t.Setenv("SLUICE_RESOLVER", variable)
			if r := a.Sluice(t, command...); (r.Code == 0) != reached || reached != strings.Contains(r.Stdout, "volumeInfo") {
				t.Errorf("SLUICE_RESOLVER=%s: exit %d, %q, %q", variable, r.Code, r.Stdout, r.Stderr)
			}
		}
		t.Setenv("SLUICE_RESOLVER", "192.0.2.53:5353")
		if r := a.Sluice(t, append([]string{"run", "--resolver", "8.8.8.8"}, command[1:]...)...); r.Code != 0 {
			t.Errorf("the flag does not win over the variable: exit %d, %q", r.Code, r.Stderr)
		}
	})
}

func TestTheExitStatusIsTheCommandsOwn(t *testing.T) {
	eachUser(t, func(t *testing.T, a *alone) {
		for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -TERM $$": 143} {
			if r := a.run(t, "--", "/bin/sh", "-c", script); r.Code != want {
				t.Errorf("%s: exit %d, want %d (%s)", script, r.Code, want, r.Stderr)
			}
		}
		if r := a.run(t, "--", "/no/such/program"); r.Code != 127 || !strings.Contains(r.Stderr, "/no/such/program") {
			t.Errorf("no program: exit %d, %q", r.Code, r.Stderr)
		}
		if r := a.run(t); r.Code == 0 || !strings.Contains(r.Stderr, "--") {
			t.Errorf("no command: exit %d, %q", r.Code, r.Stderr)
		}
		if r := a.run(t, "--allow", "cnn..com", "--", "true"); r.Code != 125 || !strings.Contains(r.Stderr, "cnn..com") {
			t.Errorf("a bad rule: exit %d, %q", r.Code, r.Stderr)
		}
	})
}

// Attacks of the article and the like. Whatever a workload says or dials, it
// reaches the allowed name or nothing; never the hostile server.
func TestAWorkloadCannotNameOneHostAndReachAnother(t *testing.T) {
	type attack struct {
		name   string
		allow  []string
		before func(t *testing.T, a *alone)
		curl   []string
		code   int    // of curl
		says   string // in what curl printed
		wants  string // in the words of sluice after it
	}
	google := []string{"*.googleapis.com:443"}
	const originate = "http://www.googleapis.com:443"
	lie := func(t *testing.T, a *alone) { a.net.Lie(t, "www.googleapis.com", hostile4) }
	attacks := []attack{
		{name: "the Host of an allowed domain with a hostile address reaches the allowed host", allow: google,
			curl: []string{"-H", "Host: www.googleapis.com", "http://" + hostile4 + ":443" + books}, says: "volumeInfo"},
		{name: "the SNI of an allowed domain with a hostile address reaches the allowed host", allow: google,
			curl: []string{"--resolve", "www.googleapis.com:443:" + hostile4, "https://www.googleapis.com" + books}, says: "volumeInfo"},
		{name: "the address of an allowed name with the SNI of another is refused", allow: google,
			curl: []string{"--connect-to", "fcm.googleapis.com:443:www.googleapis.com:443", "https://fcm.googleapis.com/"}, code: 35, wants: "names of one connection differ"},
		{name: "the address of an allowed name with the Host of another is refused", allow: google,
			curl: []string{"-H", "Host: fcm.googleapis.com", originate + "/"}, says: "name-mismatch"},
		{name: "a Host with another port is refused", allow: google,
			curl: []string{"-H", "Host: www.googleapis.com:8443", originate + "/"}, says: "port-mismatch"},
		{name: "an allowed SNI while the resolver lies is refused", allow: google, before: lie,
			curl: []string{"https://www.googleapis.com" + books}, code: 35},
		{name: "an allowed Host while the resolver lies is refused", allow: google, before: lie,
			curl: []string{originate + books}, says: "certificate"},
		{name: "a name that leads to loopback and the metadata service is refused on TLS", allow: []string{"rebind.example.com:443"},
			curl: []string{"https://rebind.example.com/"}, code: 35, wants: "private"},
		{name: "a name that leads to loopback and the metadata service is refused on HTTP", allow: []string{"rebind.example.com:80"},
			curl: []string{"http://rebind.example.com/"}, says: "private-address"},
		{name: "a name that leads to a private network is refused", allow: []string{"*.example.com:80"},
			curl: []string{"http://intranet.example.com/"}, says: "private-address"},
		{name: "a denied name on the address of an allowed one is refused", allow: []string{"www.googleapis.com:443"},
			curl: []string{"https://www.google.com/"}, code: 35, wants: "denied www.google.com:443"},
		{name: "an address literal is not opened by a star", allow: []string{"*:80"},
			curl: []string{"http://142.250.74.74/"}, says: "address-literal"},
		{name: "an address literal in another spelling is not opened by a star", allow: []string{"*:80"},
			curl: []string{"http://0x8e.16403018/"}, says: "address-literal"},
		{name: "a wildcard does not open its apex", allow: google,
			curl: []string{"https://googleapis.com/"}, code: 35, wants: "denied googleapis.com:443"},
		{name: "a hostile server is no upstream even when its name is allowed", allow: []string{hostile + ":443"},
			curl: []string{"-k", "https://" + hostile + "/"}, code: 35},
		{name: "an expired certificate is refused where we originate", allow: []string{"expired.badssl.com:443"},
			curl: []string{"http://expired.badssl.com:443/"}, says: "certificate"},
		{name: "the certificate of another name is refused on passthrough", allow: []string{"wrong.host.badssl.com:443"},
			curl: []string{"-k", "https://wrong.host.badssl.com/"}, code: 35},
	}
	eachUser(t, func(t *testing.T, a *alone) {
		for _, x := range attacks {
			t.Run(x.name, func(t *testing.T) {
				a.net.Reset(t)
				if x.before != nil {
					x.before(t, a)
				}
				r := a.get(t, x.allow, x.curl...)
				if r.Code != x.code || !strings.Contains(r.Stdout, x.says) || !strings.Contains(r.Stderr, x.wants) {
					t.Errorf("exit %d, said %q and %q; want %d, %q, %q", r.Code, r.Stdout, r.Stderr, x.code, x.says, x.wants)
				}
				if seen := a.net.Requests(t, hostile); len(seen) != 0 {
					t.Errorf("the hostile server got a request: %+v", seen)
				}
				for _, private := range []string{"169.254.169.254", "127.0.0.1", "10.0.0.1"} {
					if seen := a.net.Connections(t, private); len(seen) != 0 {
						t.Errorf("%s was dialled: %+v", private, seen)
					}
				}
			})
		}
	})
}

const wikipedia = `apiVersion: config.istio.io/v1alpha2
kind: EgressRule
metadata:
  name: wikipedia-NAME
spec:
  destination:
    service: CIDR
  ports:
  - port: 443
    protocol: tcp
`

// The walk for TCP: five ranges on 443 open the names that lead into them.
func TestFiveRangesOnTCPOpenTheNamesThatLeadIntoThem(t *testing.T) {
	eachUser(t, func(t *testing.T, a *alone) {
		var rules []string
		for name, cidr := range map[string]string{"a": "91.198.174.192/27", "b": "103.102.166.224/27", "c": "198.35.26.96/27", "d": "208.80.153.224/27", "e": "208.80.154.224/27"} {
			rules = append(rules, strings.NewReplacer("NAME", name, "CIDR", cidr).Replace(wikipedia))
		}
		file := filepath.Join(filepath.Dir(a.Runtime), "wikipedia.yaml")
		if err := os.WriteFile(file, []byte(strings.Join(rules, "---\n")), 0o644); err != nil {
			t.Fatal(err)
		}
		curl := []string{"--rules", file, "--", a.curl, "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "60", "--cacert", a.net.CA}
		if r := a.run(t, append(curl, "https://www.wikipedia.org/")...); r.Code != 0 || r.Stdout != "200" {
			t.Errorf("inside the ranges: exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
		}
		if r := a.run(t, append(curl, "https://en.wikipedia.org/")...); r.Code == 0 || !strings.Contains(r.Stderr, "outside the addresses that the rules allow") {
			t.Errorf("outside the ranges: exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
		}
	})
}

// The client says nothing until it was greeted, as that of a database does.
func TestAServerThatSpeaksFirstIsHeard(t *testing.T) {
	eachUser(t, func(t *testing.T, a *alone) {
		w := a.StartWorkload(t, "--egress-sockets", a.net.Sockets, "--upstream-ca", a.net.CA, "--resolver", "8.8.8.8", "--allow", "db.example.com:3306")
		asked := time.Now()
		if greeting := w.Do(t, agent.Ask{Do: agent.Say, Address: "db.example.com:3306", First: true}); len(greeting.Body) == 0 {
			t.Errorf("no greeting: %s", greeting.Error)
		}
		t.Logf("heard %v after it was dialled", time.Since(asked).Round(time.Millisecond))
	})
}

// The data folders of this machine's server and proxy are hidden from every
// command, wherever their flags put them: a same-uid command must not reach the rules.
func TestACommandNeverSeesWhereTheServerKeepsItsData(t *testing.T) {
	for _, user := range mesh.Users(t) {
		t.Run(user.Name, func(t *testing.T) {
			place := mesh.NewPlace(t, user)
			elsewhere := filepath.Join(filepath.Dir(place.Runtime), "data", "elsewhere")
			place.Data = filepath.Join(filepath.Dir(place.Runtime), "other") // what the variable says is not what the flag says
			place.Background(t, nil, "sluice-server", "--data-dir", elsewhere)
			mesh.Eventually(t, func() string { return place.Sluice(t, "status").Stderr })
			for _, folder := range []string{elsewhere, place.Runtime} {
				r := place.Run(t, "", "sluice", "run", "--", "/bin/sh", "-c", "ls -A "+folder)
				if r.Code != 0 || r.Stdout != "" {
					t.Errorf("%s shows %q (exit %d, %s)", folder, r.Stdout, r.Code, r.Stderr)
				}
			}
			if entries, err := os.ReadDir(elsewhere); err != nil || len(entries) == 0 {
				t.Errorf("outside it holds %d entries, %v; the test proves nothing", len(entries), err)
			}
		})
	}
}
