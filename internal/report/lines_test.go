package report

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// https is a connection of TLS to www.example.com that the rule r allowed.
func https() record.Record {
	return record.Record{Dialled: "www.example.com", Port: 443, SNI: "www.example.com", Sniffed: policy.ClientHello, Rule: "egress-policy/default/r"}
}

// failed is https, that came to a failure or to a denial behind the verdict.
func failed(e *refusal.Error) record.Record {
	r := https()
	r.Fail(e)
	return r
}

// denied is https, that a verdict denied.
func denied(reason refusal.Reason) record.Record {
	r := https()
	r.Rule, r.Verdict, r.Reason = "", record.Denied, reason
	return r
}

// What is said for each reason that there is, word by word.
func TestEachReasonHasItsLine(t *testing.T) {
	// Those of an ingress are no command's, and of a client that went away nothing is said.
	missing := slices.DeleteFunc(refusal.All(), func(r refusal.Reason) bool {
		return r == refusal.NoRoute || r.Group() == refusal.ClientsDoing
	})
	const certificate = "the server at 192.0.2.7:443 did not prove to be www.example.com"
	proof := func(text, cause string) record.Record {
		return failed(&refusal.Error{Reason: refusal.CertificateFail, Text: text, Err: fmt.Errorf("%s", cause)})
	}
	tried := func(e refusal.Error) record.Record {
		r := failed(&e)
		r.Upstream = "192.0.2.7:443"
		return r
	}
	said := func(reason refusal.Reason, text string) record.Record {
		return record.Record{Dialled: "www.example.com", Port: 80, Verdict: record.Denied, Reason: reason, Detail: text}
	}
	const to, by = "www.example.com:443", ", rule egress-policy/default/r"
	for name, c := range map[string]struct {
		record record.Record
		want   string
	}{
		"unknown name":   {failed(&refusal.Error{Reason: refusal.NoSuchName, Text: "www.example.com does not exist in DNS"}), "not reached " + to + " (DNS says that the name does not exist.)" + by},
		"a fault":        {failed(&refusal.Error{Reason: refusal.FaultInjected, Text: "fault filter abort by route-rule/default/r"}), "not reached " + to + " (fault filter abort by route-rule/default/r)" + by},
		"refused":        {tried(refusal.Error{Reason: refusal.ConnectRefused, Text: "www.example.com (192.0.2.7) refused the connection"}), "not reached " + to + " at 192.0.2.7:443 (The server refused the connection.)" + by},
		"timed out":      {tried(refusal.Error{Reason: refusal.ConnectTimeout}), "not reached " + to + " at 192.0.2.7:443 (The server did not answer the connection in time.)" + by},
		"expired":        {proof(certificate, "x509: certificate has expired or is not yet valid"), "denied " + to + " (" + certificate + ": x509: certificate has expired or is not yet valid)" + by},
		"wrong name":     {proof(certificate, "x509: certificate is valid for a.example.com, not www.example.com"), "denied " + to + " (" + certificate + ": x509: certificate is valid for a.example.com, not www.example.com)" + by},
		"unknown CA":     {proof(certificate, "x509: certificate signed by unknown authority"), "denied " + to + " (" + certificate + ": x509: certificate signed by unknown authority)" + by},
		"speaks no TLS":  {tried(*refusal.Server(refusal.UpstreamTLS, netip.MustParseAddrPort("192.0.2.7:443"), "www.example.com", fmt.Errorf("tls: first record does not look like a TLS handshake"))), "not reached " + to + " (TLS handshake with 192.0.2.7:443 for www.example.com: tls: first record does not look like a TLS handshake)" + by},
		"no address":     {failed(&refusal.Error{Reason: refusal.NoAddress}), "not reached " + to + " (The name exists in DNS and has no address.)" + by},
		"DNS is silent":  {failed(&refusal.Error{Reason: refusal.ResolveFailed, Text: "DNS gave no answer for www.example.com"}), "not reached " + to + " (DNS gave no answer for www.example.com)" + by},
		"too many names": {failed(refusal.New(refusal.TooManyNames, "")), "not reached " + to + " (Too many new names were asked for under a wildcard in too short a time.)" + by},
		"a question to DNS": {
			record.Record{Dialled: "example.com", Port: 53, Question: "MX", Verdict: record.Failed, Reason: refusal.DNSType, Detail: "MX records are not supported"},
			"not reached example.com by its MX records (MX records are not supported)",
		},
		"no way":             {tried(refusal.Error{Reason: refusal.ConnectFailed, Text: "no connection to www.example.com (192.0.2.7)", Err: fmt.Errorf("network is unreachable")}), "not reached " + to + " at 192.0.2.7:443 (no connection to www.example.com (192.0.2.7): network is unreachable)" + by},
		"no connection":      {failed(&refusal.Error{Reason: refusal.UpstreamConnect}), "not reached " + to + " (The upstream could not be reached.)" + by},
		"reset":              {tried(refusal.Error{Reason: refusal.UpstreamReset}), "not reached " + to + " at 192.0.2.7:443 (The upstream closed the connection before its answer was complete.)" + by},
		"silent":             {tried(refusal.Error{Reason: refusal.UpstreamTimeout, Err: fmt.Errorf("raw-read: i/o timeout")}), "not reached " + to + " at 192.0.2.7:443 (The upstream did not answer in time.)" + by},
		"not HTTP":           {tried(refusal.Error{Reason: refusal.UpstreamProtocol}), "not reached " + to + " at 192.0.2.7:443 (The upstream's answer is not one unambiguous HTTP/1.1 answer.)" + by},
		"nobody is healthy":  {failed(refusal.New(refusal.NoHealthyUpstream, "no healthy upstream: no endpoint of details serves port 443")), "not reached " + to + " (no healthy upstream: no endpoint of details serves port 443)" + by},
		"a circuit breaker":  {failed(refusal.New(refusal.CircuitBreaker, "")), "not reached " + to + " (" + refusal.CircuitBreaker.Text() + ")" + by},
		"no certificate":     {denied(refusal.NoCertificate), "denied " + to + " (" + refusal.NoCertificate.Text() + ")"},
		"no client proof":    {denied(refusal.NoClientProof), "denied " + to + " (" + refusal.NoClientProof.Text() + ")"},
		"misdirected":        {said(refusal.Misdirected, ""), "denied www.example.com:80 (" + refusal.Misdirected.Text() + ")"},
		"the client's TLS":   {said(refusal.ClientTLS, ""), "denied www.example.com:80 (" + refusal.ClientTLS.Text() + ")"},
		"no proxy":           {failed(refusal.New(refusal.ViaProxyUnreachable, "")), "not reached " + to + " (The proxy of --via-proxy could not be reached.)" + by},
		"the proxy refuses":  {failed(refusal.New(refusal.ViaProxyRefused, "proxy p:3128 refused CONNECT www.example.com:443: 403 Forbidden")), "not reached " + to + " (proxy p:3128 refused CONNECT www.example.com:443: 403 Forbidden)" + by},
		"no credentials":     {failed(refusal.New(refusal.ViaProxyAuthentication, "")), "not reached " + to + " (The proxy of --via-proxy wants other credentials than it was given.)" + by},
		"the proxy fails":    {failed(refusal.New(refusal.ViaProxyFailed, "")), "not reached " + to + " (The proxy of --via-proxy did not reach the destination.)" + by},
		"no proxy of HTTP":   {failed(refusal.New(refusal.ViaProxyAnswer, "")), "not reached " + to + " (The answer of the proxy of --via-proxy is not one of HTTP/1.)" + by},
		"no such port":       {failed(refusal.New(refusal.NoSuchPort, "")), "not reached " + to + " (The service does not serve this port.)" + by},
		"all are busy":       {failed(refusal.New(refusal.Overflow, "")), "not reached " + to + " (This workload has as many connections as it may, and none became free in time.)" + by},
		"withdrawn":          {failed(refusal.New(refusal.Withdrawn, "")), "not reached " + to + " (What allowed this request was withdrawn while it was in progress.)" + by},
		"stopping":           {failed(refusal.New(refusal.Stopping, "")), "not reached " + to + " (The proxy is shutting down.)" + by},
		"internal":           {failed(refusal.New(refusal.Internal, "")), "not reached " + to + " (The proxy could not follow its own decision.)" + by},
		"no decision":        {failed(refusal.New(refusal.DecisionTimeout, "")), "not reached " + to + " (The decision about the request did not come in time.)" + by},
		"no rule":            {denied(refusal.NoRule), "denied " + to + " (No rule allows this destination on this port.)"},
		"names differ":       {denied(refusal.NameMismatch), "denied " + to + " (The names of one connection differ: what was dialled, the SNI and the Host must be the same.)"},
		"ports differ":       {denied(refusal.PortMismatch), "denied " + to + " (The Host names another port than the one that was dialled.)"},
		"no SNI":             {denied(refusal.NoServerName), "denied " + to + " (The TLS handshake names no server (no SNI), and no tcp rule allows the destination.)"},
		"no Host":            {denied(refusal.NoHost), "denied " + to + " (The request has no Host, and the destination was not dialled by a name.)"},
		"bad Host":           {denied(refusal.BadHost), "denied " + to + " (The SNI or Host is not a valid host name.)"},
		"an address":         {denied(refusal.AddressLiteral), `denied ` + to + ` (The destination is an address; rules on names, "*" among them, never allow one.)`},
		"method":             {denied(refusal.MethodOrPath), "denied " + to + " (A rule allows the host, but not this method and path.)"},
		"upgrade":            {denied(refusal.UpgradeForbidden), "denied " + to + " (A rule allows the request, but not the change of protocol that it asks for (http[].upgrades).)"},
		"protocol":           {denied(refusal.ProtocolMismatch), "denied " + to + " (A rule allows the host on this port, but not with this protocol.)"},
		"scheme":             {denied(refusal.SchemeMismatch), "denied " + to + " (The request's target is an https URL, but the rule forwards plain HTTP.)"},
		"ECH":                {denied(refusal.EncryptedHello), "denied " + to + " (The TLS handshake hides its server name (Encrypted Client Hello).)"},
		"a name of the mesh": {denied(refusal.MeshName), "denied " + to + " (The name belongs to the mesh's domain, which is never resolved outside the mesh.)"},
		"an obligation":      {denied(refusal.ObligationUnknown), "denied " + to + " (" + refusal.ObligationUnknown.Text() + ")"},
		"private":            {failed(refusal.New(refusal.PrivateAddress, "www.example.com leads to 10.0.0.1")), "denied " + to + " (www.example.com leads to 10.0.0.1)" + by},
		"outside the ranges": {failed(refusal.New(refusal.OutsideCIDR, "")), "denied " + to + " (Only rules on addresses allow this port, and the name leads to none of their addresses.)" + by},
		"no rules yet":       {denied(refusal.NoSnapshot), "denied " + to + " (The proxy has not received any rules yet; until then it denies.)"},
		"rules too old":      {denied(refusal.StaleSnapshot), "denied " + to + " (The proxy's rules are older than the mesh allows; until it reaches its server it denies.)"},
		"malformed":          {said(refusal.RequestMalformed, "The request has two Host fields."), "denied www.example.com:80 (The request has two Host fields.)"},
		"too slow":           {said(refusal.RequestTimeout, ""), "denied www.example.com:80 (The request was not finished in time.)"},
		"a large body":       {said(refusal.RequestTooLarge, ""), "denied www.example.com:80 (The request's body is larger than this proxy allows.)"},
		"a large head":       {said(refusal.HeadersTooLarge, ""), "denied www.example.com:80 (The request's head is larger than this proxy allows.)"},
		"an expectation":     {said(refusal.ExpectationUnknown, ""), "denied www.example.com:80 (The only expectation that can be met is 100-continue.)"},
		"CONNECT":            {said(refusal.ConnectNotSupported, ""), "denied www.example.com:80 (CONNECT is not supported yet.)"},
		"TRACE":              {said(refusal.TraceRefused, ""), "denied www.example.com:80 (TRACE is refused.)"},
		"HTTP/0.9":           {said(refusal.VersionNotSupported, ""), "denied www.example.com:80 (This proxy speaks HTTP/1.1 and HTTP/1.0.)"},
		"HTTP/2":             {said(refusal.HTTP2NotSupported, ""), "denied www.example.com:80 (HTTP/2 is taken as the first thing on a connection alone, and not while the proxy is ending; use HTTP/1.1.)"},
	} {
		var b strings.Builder
		Print(&b, summaryOf(c.record), nil)
		if want := "sluice: " + c.want + "\n"; b.String() != want {
			t.Errorf("%s: it says\n%swant\n%s", name, b.String(), want)
		}
		missing = slices.DeleteFunc(missing, func(r refusal.Reason) bool { return r == c.record.Reason })
	}
	for _, reason := range missing {
		t.Errorf("no line is held for %s", reason)
	}
}

func summaryOf(records ...record.Record) Summary {
	var t Tally
	for i := range records {
		t.Closed(&records[i])
	}
	return t.Summary()
}

func printed(advise Advisor, records ...record.Record) string {
	var b strings.Builder
	Print(&b, summaryOf(records...), advise)
	return b.String()
}

func TestAfterACommandEachDestinationIsNamedOnceAndByItsOutcome(t *testing.T) {
	audited := denied(refusal.NoRule)
	audited.Verdict, audited.Upstream, audited.Rule = record.Audited, "192.0.2.7:443", policy.AuditRule
	refused := failed(&refusal.Error{Reason: refusal.ConnectRefused})
	allowed, left := https(), failed(refusal.New(refusal.ClientGone, ""))
	allowed.Verdict = record.Allowed
	byAddress := record.Record{Dialled: "198.51.100.7", SNI: "doh.example.net", Port: 443, Verdict: record.Denied, Reason: refusal.NameMismatch}
	request := record.Record{Dialled: "2001:db8::1", Host: "[2001:db8::2]:8080", Port: 8080, Verdict: record.Denied, Reason: refusal.NoRule}
	got := printed(func(r *record.Record) string { return "ask about " + Destination(r) },
		audited, refused, denied(refusal.NoRule), allowed, left, byAddress, denied(refusal.NoRule), request)
	want := `sluice: denied www.example.com:443 (No rule allows this destination on this port.), 2 times; ask about www.example.com:443
sluice: denied doh.example.net:443 (The names of one connection differ: what was dialled, the SNI and the Host must be the same.); ask about doh.example.net:443
sluice: denied [2001:db8::2]:8080 (No rule allows this destination on this port.); ask about [2001:db8::2]:8080
sluice: not reached www.example.com:443 (The server refused the connection.), rule egress-policy/default/r
sluice: allowed by audit only www.example.com:443 at 192.0.2.7:443 (No rule allows this destination on this port.); ask about www.example.com:443
`
	if got != want {
		t.Errorf("it says\n%swant\n%s", got, want)
	}
	if got := printed(nil, allowed, left); got != "" {
		t.Errorf("of what passed it says\n%s", got)
	}
}

func TestAsItHappensWhatPassesIsNamedToo(t *testing.T) {
	allowed := https()
	allowed.Verdict, allowed.Upstream = record.Allowed, "192.0.2.7:443"
	if got, want := Line(&allowed), "sluice: allowed www.example.com:443 at 192.0.2.7:443, rule egress-policy/default/r\n"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
	left := failed(refusal.New(refusal.ClientGone, ""))
	if got, want := Line(&left), "sluice: broken off by the command www.example.com:443 (The client went away.), rule egress-policy/default/r\n"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
}

func TestTheLinesAfterACommandAreBounded(t *testing.T) {
	var records []record.Record
	for port := range uint16(100) {
		records = append(records, record.Record{Dialled: "a.example", Port: port + 1, Verdict: record.Denied, Reason: refusal.NoRule})
	}
	said := printed(nil, records...)
	if lines := strings.Count(said, "\n"); lines != MaxLines+1 || !strings.HasSuffix(said, "sluice: and 80 more destinations were denied\n") {
		t.Errorf("%d lines:\n%s", lines, said)
	}
}

func TestTheDestinationsThatAreKeptAreBoundedAndTheSumsAreExact(t *testing.T) {
	var tally Tally
	for i := range MaxEntries + 500 {
		tally.Closed(&record.Record{Dialled: fmt.Sprint("h", i, ".example"), Port: 80, Verdict: record.Denied, Reason: refusal.NoRule})
		tally.Closed(&record.Record{Dialled: "a.example", Port: 80, Verdict: record.Allowed})
	}
	s := tally.Summary()
	if len(s.Entries) != MaxEntries || s.Counts.Denied != MaxEntries+500 || s.Counts.Allowed != MaxEntries+500 || s.More.Denied != 500 {
		t.Errorf("%d entries, counted %+v, beyond them %+v", len(s.Entries), s.Counts, s.More)
	}
	var b strings.Builder
	Print(&b, s, nil)
	if !strings.HasSuffix(b.String(), fmt.Sprintf("sluice: and at least %d more destinations were denied\n", MaxEntries-MaxLines)) {
		t.Errorf("it says\n%s", b.String())
	}
}

// A command chooses names, and people paste the line into a shell.
func TestNothingThatACommandChoseIsObeyedByATerminal(t *testing.T) {
	var said strings.Builder
	for _, name := range []string{"a.example\x1b]0;owned\a", "a.example\r\nsluice: all is well", "\u202eelpmaxe.a", "a.\xff", strings.Repeat("long", 1000)} {
		said.WriteString(printed(nil, record.Record{Dialled: name, Port: 443, Verdict: record.Denied, Reason: refusal.NoRule}))
		said.WriteString(printed(nil, record.Record{Dialled: "b.example", Port: 443, Verdict: record.Denied, Reason: refusal.RequestMalformed, Detail: name, Rule: name, Upstream: name}))
		r := record.Record{Dialled: "198.51.100.7", Host: name, Port: 80, Verdict: record.Allowed, Upstream: name}
		said.WriteString(Line(&r))
	}
	if text := said.String(); !utf8.ValidString(text) || strings.ContainsAny(text, "\x1b\a\r\u202e") || strings.Count(text, "\n") != 15 {
		t.Errorf("it says:\n%q", text)
	}
	for line := range strings.Lines(said.String()) {
		if len(line) > 2048 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}
