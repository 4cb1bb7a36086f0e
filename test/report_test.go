package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sluice.dev/sluice/test/mesh"
)

// sites are rules for places that are not reached, or not as they are asked for.
const sites = `apiVersion: sluice.dev/v1alpha1
kind: EgressPolicy
metadata: {name: sites, namespace: default}
spec:
  to:
    hosts:
    - no-such-name.example.org
    - mail-only.example.com
    - refused.example.com
    - tarpit.example.com
    - expired.badssl.com
    - wrong.host.badssl.com
    - self-signed.badssl.com
    - rebind.example.com
    ports: [{port: 443, protocol: https}, {port: 80, protocol: http}]
---
apiVersion: sluice.dev/v1alpha1
kind: EgressPolicy
metadata: {name: database, namespace: default}
spec:
  to:
    hosts: [db.example.com]
    ports: [{port: 3306, protocol: https}]
---
apiVersion: sluice.dev/v1alpha1
kind: EgressPolicy
metadata: {name: reading, namespace: default}
spec:
  to:
    hosts: [www.example.com]
    ports: [{port: 80, protocol: http}]
  http:
  - {methods: [GET], paths: ["/public/*"]}
`

// A server in two families that both fail: whose answer DNS gave first leads.
const (
	v6First = "TLS handshake with [2606:4700::6812:141e]:3306 for db.example.com: tls: first record does not look like a TLS handshake; also tried 104.18.20.30 (TLS handshake failed)"
	v4First = "TLS handshake with 104.18.20.30:3306 for db.example.com: tls: first record does not look like a TLS handshake; also tried 2606:4700::6812:141e (TLS handshake failed)"
)

// asks are what a command asks for, all at once, and the line that is said of each
// after it. ADVICE stands for what to do about it, which is another thing with a
// server than without one.
var asks = []struct{ curl, says string }{
	{"http://no-such-name.example.org/", "not reached no-such-name.example.org:80 (DNS says that the name does not exist.), rule egress-policy/default/sites"},
	{"http://mail-only.example.com/", "not reached mail-only.example.com:80 (The name exists in DNS and has no address.), rule egress-policy/default/sites"},
	{"http://refused.example.com/", "not reached refused.example.com:80 at 104.18.20.32:80 (The server refused the connection.), rule egress-policy/default/sites"},
	{"https://refused.example.com/", "not reached refused.example.com:443 at 104.18.20.32:443 (The server refused the connection.), rule egress-policy/default/sites"},
	{"https://tarpit.example.com/", "not reached tarpit.example.com:443 (TLS handshake with 104.18.20.31:443 for tarpit.example.com: it did not answer in time), rule egress-policy/default/sites"},
	{"-k https://expired.badssl.com/", "denied expired.badssl.com:443 (the server at 104.154.89.105:443 did not prove to be expired.badssl.com: x509: certificate has expired or is not yet valid: current time TIME is after TIME), rule egress-policy/default/sitesADVICE"},
	{"-k https://wrong.host.badssl.com/", "denied wrong.host.badssl.com:443 (the server at 104.154.89.105:443 did not prove to be wrong.host.badssl.com: x509: certificate is valid for expired.badssl.com, not wrong.host.badssl.com), rule egress-policy/default/sitesADVICE"},
	{"http://self-signed.badssl.com:443/", "denied self-signed.badssl.com:443 (the server at 104.154.89.105:443 did not prove to be self-signed.badssl.com: x509: certificate signed by unknown authority), rule egress-policy/default/sitesADVICE"},
	{"https://db.example.com:3306/", "not reached db.example.com:3306 (" + v6First + "), rule egress-policy/default/database"},
	{"http://rebind.example.com/", "denied rebind.example.com:80 (rebind.example.com leads to ADDRESSES, which are not addresses of the public internet; a rule allows that with privateAnswers), rule egress-policy/default/sitesADVICE"},
	{"http://www.example.com/secret", "denied www.example.com:80 (A rule allows the host, but not this method and path.), rule egress-policy/default/readingADVICE"},
	{"http://www.google.com/", "denied www.google.com:80 (No rule allows this destination on this port.)ADVICE"},
	{"-H 'Host: www.google.com' http://www.example.com/public/", "denied www.example.com:80 (The names of one connection differ: what was dialled, the SNI and the Host must be the same.)ADVICE"},
	{"-H 'Host: www.example.com:8080' http://www.example.com/public/", "denied www.example.com:80 (The Host names another port than the one that was dialled.)ADVICE"},
	{"-k https://45.33.32.156/", "denied 45.33.32.156:443 (The TLS handshake names no server (no SNI), and no tcp rule allows the destination.)ADVICE"},
	{"http://www.example.com/public/a", ""},
}

// script asks for all of them and fails with none.
func script(curl string) string {
	var b strings.Builder
	for _, a := range asks {
		fmt.Fprintf(&b, "'%s' -sSo /dev/null --max-time 60 %s &\n", curl, a.curl)
	}
	return b.String() + "wait\n"
}

var (
	moment    = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`)
	addresses = regexp.MustCompile(`leads to [0-9a-f:., and]+, which`)
)

// told are the lines that Sluice said, in alphabetical order, without what differs
// from one run to the next.
func told(stderr string, advice *regexp.Regexp) []string {
	var lines []string
	for line := range strings.Lines(stderr) {
		if text, ours := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "sluice: "); ours {
			text = addresses.ReplaceAllString(moment.ReplaceAllString(text, "TIME"), "leads to ADDRESSES, which")
			text = strings.Replace(text, v4First, v6First, 1)
			lines = append(lines, advice.ReplaceAllString(text, "ADVICE"))
		}
	}
	slices.Sort(lines)
	return lines
}

// wanted are the lines that asks name; advised says of which a rule of one command
// would help.
func wanted(advised func(line string) bool) []string {
	var lines []string
	for _, a := range asks {
		if a.says == "" {
			continue
		}
		if !advised(a.says) {
			a.says = strings.TrimSuffix(a.says, "ADVICE")
		}
		lines = append(lines, a.says)
	}
	slices.Sort(lines)
	return lines
}

func compare(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("it says\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAfterACommandStandsWhatWasDeniedAndWhatWasNotReached(t *testing.T) {
	eachUser(t, func(t *testing.T, a *alone) {
		base := filepath.Dir(a.Runtime)
		rules := filepath.Join(base, "rules.yaml")
		if err := os.WriteFile(rules, []byte(sites), 0o644); err != nil {
			t.Fatal(err)
		}
		flags := func(report string) []string {
			return []string{"--fail-on-denied", "--report", filepath.Join(a.Data, report)}
		}
		command := []string{"--", "/bin/sh", "-c", script(a.curl)}

		t.Run("alone", func(t *testing.T) {
			r := a.run(t, append(append(flags("alone"), "--rules", rules), command...)...)
			if r.Code != 3 {
				t.Errorf("exit %d, want 3: %s", r.Code, r.Stderr)
			}
			// Where a rule of one command helps, it is said which.
			compare(t, told(r.Stderr, regexp.MustCompile(`; allow it with --allow '[^']+'$`)), wanted(func(line string) bool {
				return strings.Contains(line, "No rule allows this destination") || strings.Contains(line, "names no server")
			}))
			holdsAll(t, filepath.Join(a.Data, "alone"))
		})
		t.Run("in a mesh", func(t *testing.T) {
			a.StartServer(t)
			a.StartProxy(t, a.net)
			if r := a.Sluice(t, "create", "-f", rules); r.Code != 0 {
				t.Fatal(r.Stderr)
			}
			in := append(append([]string{"run", "--service", "caller"}, flags("mesh")...), command...)
			r := a.Sluice(t, in...)
			if r.Code != 3 {
				t.Errorf("exit %d, want 3: %s", r.Code, r.Stderr)
			}
			compare(t, told(r.Stderr, regexp.MustCompile(`; see sluice why [0-9a-f]{16}$`)), wanted(func(string) bool { return true }))
			holdsAll(t, filepath.Join(a.Data, "mesh"))
			id := regexp.MustCompile(`denied www\.google\.com:80.*; see (sluice why [0-9a-f]{16})`).FindStringSubmatch(r.Stderr)
			if id == nil {
				t.Fatalf("no id is said: %s", r.Stderr)
			}
			if r := a.Sluice(t, strings.Fields(id[1])[1:]...); !strings.Contains(r.Stdout, "www.google.com") {
				t.Errorf("%s: exit %d\n%s%s", id[1], r.Code, r.Stdout, r.Stderr)
			}
		})
	})
}

// holdsAll looks at a report: each ask has its line, and the sums are those of the
// lines.
func holdsAll(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	counted := map[string]int{}
	for i, line := range lines {
		var l struct {
			Format                      int
			Kind, Outcome               string
			Exit                        int
			Allowed, Denied, NotReached int
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.Format != 1 {
			t.Fatalf("%s: %v", line, err)
		}
		counted[l.Outcome]++
		want := "flow"
		switch i {
		case 0:
			want = "start"
		case len(lines) - 1:
			want = "end"
			if l.Denied != counted["denied"] || l.NotReached != counted["not-reached"] || l.Allowed != counted["allowed"] || l.Exit != 0 {
				t.Errorf("it ends with %s, and its lines are %v", line, counted)
			}
		}
		if l.Kind != want {
			t.Errorf("line %d is %s", i+1, line)
		}
	}
	if counted["allowed"]+counted["denied"]+counted["not-reached"] != len(asks) {
		t.Errorf("it holds %v, want %d flows:\n%s", counted, len(asks), text)
	}
}

// A command can neither read nor write the report of what it does, nor put another
// in its place.
func TestACommandCannotForgeItsReport(t *testing.T) {
	eachUser(t, func(t *testing.T, a *alone) {
		folder := filepath.Join(filepath.Dir(a.Runtime), "reports")
		if err := os.Mkdir(folder, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(folder, 0o777); err != nil { // whatever the umask is
			t.Fatal(err)
		}
		path := filepath.Join(folder, "report")
		ask := fmt.Sprintf("'%s' -sSo /dev/null --max-time 60 http://www.google.com/; ", a.curl)
		r := a.run(t, "--report", path, "--", "/bin/sh", "-c", ask+`cat "$0"; echo forged >>"$0"; rm -f "$0"; mv "$0" "$0.old"; true`, path)
		text, err := os.ReadFile(path)
		if r.Code != 0 || r.Stdout != "" || err != nil || strings.Contains(string(text), "\nforged") || !strings.Contains(string(text), `"outcome":"denied"`) {
			t.Errorf("exit %d, the command saw %q; the report holds %s (%v)\n%s", r.Code, r.Stdout, text, err, r.Stderr)
		}
		// It may move the folder away and make another: then that is said.
		r = a.run(t, "--report", path, "--", "/bin/sh", "-c", ask+`mv "${0%/*}" "${0%/*}.old" && mkdir "${0%/*}" && echo forged >"$0"`, path)
		if r.Code != 125 || !strings.Contains(r.Stderr, "was moved away or replaced while the command ran") {
			t.Errorf("exit %d, %q", r.Code, r.Stderr)
		}
	})
}

// Whoever asks for a report where there is no sandbox for it gets an error, not a
// command that ran unseen.
func TestAReportThatCannotBeOpenedStartsNothing(t *testing.T) {
	place := mesh.NewPlace(t, mesh.User{UID: -1})
	marker := filepath.Join(filepath.Dir(place.Runtime), "ran")
	r := place.Sluice(t, "run", "--report", "/does/not/exist/report", "--", "touch", marker)
	if _, err := os.Stat(marker); r.Code != 125 || !strings.Contains(r.Stderr, "open the report /does/not/exist/report") || err == nil {
		t.Errorf("exit %d, %q; it ran: %v", r.Code, r.Stderr, err == nil)
	}
}

// --audit lifts the lack of a rule, and nothing else.
func TestAuditLetsPassWhatNoRuleAllowsAndSaysSo(t *testing.T) {
	eachUser(t, func(t *testing.T, a *alone) {
		curl := fmt.Sprintf("'%s' -sS --max-time 60 --cacert '%s' ", a.curl, a.net.CA)
		script := curl + "https://www.example.com/; " + curl + "http://www.google.com/; " +
			curl + "http://rebind.example.com/ | grep ^reason; " + curl + "-H 'Host: www.google.com' http://www.example.com/ | grep ^reason; " +
			curl + "-k https://expired.badssl.com/ 2>/dev/null; true"
		r := a.run(t, "--audit", "--fail-on-denied", "--", "/bin/sh", "-c", script)
		if want := "www.example.com of the small internet\nwww.google.com of the small internet\nreason: private-address\nreason: name-mismatch\n"; r.Code != 3 || r.Stdout != want {
			t.Errorf("exit %d, the command saw\n%swant\n%s%s", r.Code, r.Stdout, want, r.Stderr)
		}
		address := regexp.MustCompile(` at [0-9a-f.:\[\]]+ `)
		got := told(address.ReplaceAllString(r.Stderr, " at ADDRESS "), regexp.MustCompile(`$^`))
		compare(t, got, []string{
			"allowed by audit only www.example.com:443 at ADDRESS (No rule allows this destination on this port.); allow it with --allow 'www.example.com:443'",
			"allowed by audit only www.google.com:80 at ADDRESS (No rule allows this destination on this port.); allow it with --allow 'www.google.com:80'",
			"denied expired.badssl.com:443 (the server at ADDRESS did not prove to be expired.badssl.com: x509: certificate has expired or is not yet valid: current time TIME is after TIME)",
			"denied rebind.example.com:80 (rebind.example.com leads to ADDRESSES, which are not addresses of the public internet; a rule allows that with privateAnswers)",
			"denied www.example.com:80 (The names of one connection differ: what was dialled, the SNI and the Host must be the same.)",
		})
		if r := a.run(t, "--audit", "--", "/bin/sh", "-c", curl+"https://www.example.com/"); r.Code != 0 || !strings.Contains(r.Stderr, "allowed by audit only") {
			t.Errorf("alone it is no failure: exit %d, %s", r.Code, r.Stderr)
		}
	})
}
