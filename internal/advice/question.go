package advice

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"sluice.dev/sluice/internal/httpfield"
	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// Question is one request or connection that is asked about.
type Question struct {
	Title string // "TLS with SNI www.googleapis.com on port 443"
	Chain policy.Chain
	// Answers are what DNS says of the name that is dialled; nil where nobody asks
	// what the dialer does with them.
	Answers []netip.Addr

	target, authority string // of a request, as a route rule sees them: with its query, with its port
	followed          string // the route rule of a request that was recorded
}

// Bounds of the headers of one question.
const (
	MaxHeaders     = 32
	MaxHeaderBytes = 16 << 10
)

// headers are fields of a request that is asked about: a policy.Fields.
type headers [][2]string

func (h headers) Values(lower string, yield func(string) bool) {
	for _, one := range h {
		if one[0] == lower && !yield(one[1]) {
			return
		}
	}
}

// WithHeaders returns the question with header fields as a person writes them: "Name: value".
func (q Question) WithHeaders(texts []string) (Question, error) {
	if len(texts) == 0 {
		return q, nil
	}
	if q.Chain.Sniffed != policy.HTTP {
		return q, errors.New("headers are seen of plain HTTP alone: ask about http://…, or leave them out")
	}
	if len(texts) > MaxHeaders {
		return q, fmt.Errorf("more than %d headers", MaxHeaders)
	}
	var fields headers
	size := 0
	for _, text := range texts {
		name, value, ok := strings.Cut(text, ":")
		lower := strings.ToLower(name)
		if err := httpfield.CheckAppended(lower, strings.TrimSpace(value)); !ok || name == "" || err != nil && httpfield.Editable(lower) {
			return q, fmt.Errorf("header %q must look like NAME: VALUE", text)
		}
		value = strings.TrimSpace(value)
		switch lower {
		case "host":
			return q, errors.New("the URL says the host: leave the header out")
		case "upgrade":
			q.Chain.Upgrade = value
		}
		if size += len(text); size > MaxHeaderBytes {
			return q, fmt.Errorf("headers of more than %d bytes", MaxHeaderBytes)
		}
		fields = append(fields, [2]string{lower, value})
	}
	q.Chain.Fields = fields
	return q, nil
}

// MaxAnswers bounds the answers of one question.
const MaxAnswers = 64

// WithAnswers returns the question with answers of DNS as a person writes them.
func (q Question) WithAnswers(texts []string) (Question, error) {
	if len(texts) == 0 {
		return q, nil
	}
	if q.Chain.Dialled.IsZero() {
		return q, fmt.Errorf("%s is dialled as an address, and DNS is not asked: leave the answers out", q.Chain.Addr)
	}
	if len(texts) > MaxAnswers {
		return q, fmt.Errorf("more than %d answers", MaxAnswers)
	}
	q.Answers = nil
	for _, text := range texts {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return q, fmt.Errorf("answer %q is not a valid IP address", text)
		}
		q.Answers = append(q.Answers, addr)
	}
	return q, nil
}

// MaxURL bounds the address that is asked about, in bytes.
const MaxURL = 4096

// Parse reads what a person asks about: https://host[:port]/path is a TLS
// connection with that SNI, http://host[:port]/path a plain request with method
// ("" is GET), and host:port or tcp://host:port a connection without names. The
// errors are for people.
func Parse(text, method string) (Question, error) {
	if len(text) > MaxURL {
		return Question{}, fmt.Errorf("the URL is longer than %d bytes", MaxURL)
	}
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		scheme, rest = "tcp", text
	}
	authority, path := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	if strings.Contains(authority, "@") {
		return Question{}, errors.New("the URL holds a user name: leave it out")
	}
	host, err := names.ParseHost(authority)
	if err != nil {
		return Question{}, fmt.Errorf("%q is not a valid host: %w", authority, err)
	}
	switch scheme = strings.ToLower(scheme); scheme {
	case "https":
		return tlsTo(host), nil
	case "http":
		return requestTo(host, method, path)
	case "tcp":
		if !ok && host.Port == 0 {
			return Question{}, fmt.Errorf("say which protocol: https://%[1]s/, http://%[1]s/ or %[1]s:PORT", authority)
		}
		if host.Port == 0 || strings.Trim(path, "/") != "" {
			return Question{}, errors.New("a TCP destination is HOST:PORT")
		}
		return opaqueTo(host), nil
	}
	return Question{}, fmt.Errorf("scheme %q is not known: use https, http or tcp", scheme)
}

// chainTo starts the chain of a connection to host.
func chainTo(host names.Host, port uint16) policy.Chain {
	if host.Port != 0 {
		port = host.Port
	}
	return policy.Chain{Port: port, Dialled: host.Name, Addr: host.Addr}
}

func tlsTo(host names.Host) Question {
	chain := chainTo(host, 443)
	chain.Sniffed, chain.SNI = policy.ClientHello, host.Name
	title := "TLS with SNI " + host.Name.String()
	if host.Name.IsZero() {
		title = "TLS without SNI to " + host.Addr.String()
	}
	return Question{Title: title + " on port " + port(chain.Port), Chain: chain}
}

func requestTo(host names.Host, method, path string) (Question, error) {
	chain := chainTo(host, 80)
	chain.Sniffed, chain.Host = policy.HTTP, host
	target, err := url.ParseRequestURI("/" + strings.TrimPrefix(path, "/"))
	if err != nil {
		return Question{}, fmt.Errorf("%q is not a valid path: %w", path, err)
	}
	chain.Method, chain.Path = strings.ToUpper(method), target.EscapedPath()
	if chain.Method == "" {
		chain.Method = "GET"
	}
	q := Question{Title: "plain HTTP " + chain.Method + " " + chain.Path + " for " + host.String() + " on port " + port(chain.Port), Chain: chain}
	q.target, q.authority = chain.Path, host.String()
	if target.RawQuery != "" {
		q.target += "?" + target.RawQuery
	}
	return q, nil
}

func opaqueTo(host names.Host) Question {
	chain := chainTo(host, 0)
	chain.Sniffed = policy.Opaque
	host.Port = 0
	return Question{Title: "TCP to " + host.String() + " on port " + port(chain.Port), Chain: chain}
}

func port(n uint16) string { return strconv.Itoa(int(n)) }

// OfRecord asks again about what a record tells of. ok is false where it tells of no
// destination that a workload dialled.
func OfRecord(r *record.Record) (q Question, ok bool) {
	if r.Direction == record.Ingress || r.Question != "" {
		return Question{}, false
	}
	chain := policy.Chain{Transport: r.Transport, Port: r.Port, Method: r.Method, Path: r.Path, Upgrade: r.Upgrade}
	if addr, err := netip.ParseAddr(r.Dialled); err == nil {
		chain.Addr = addr
	} else if chain.Dialled, err = names.Parse(r.Dialled); err != nil {
		return Question{}, false
	}
	title := "TCP to " + printable(r.Dialled)
	switch r.Sniffed {
	case policy.HTTP:
		chain.Sniffed = policy.HTTP
		chain.HTTPS = r.Reason == refusal.SchemeMismatch // which nothing else is denied with
		var err error
		if chain.Host, err = names.ParseHost(r.Host); err != nil {
			chain.HostBad = r.Host != ""
		}
		title = fmt.Sprintf("plain HTTP %s for %s", requestText(&chain), printable(cmp.Or(r.Host, r.Dialled)))
	case policy.ClientHello:
		chain.Sniffed = policy.ClientHello
		chain.ECH = r.Reason == refusal.EncryptedHello
		var err error
		if chain.SNI, err = names.Parse(r.SNI); err != nil {
			chain.SNIBad = r.SNI != ""
		}
		title = "TLS with SNI " + printable(r.SNI)
		if r.SNI == "" {
			title = "TLS without SNI to " + printable(r.Dialled)
		}
	default:
		chain.Sniffed = policy.Opaque
	}
	q = Question{Title: title + " on port " + port(r.Port), Chain: chain, target: r.Path, authority: r.Host}
	switch r.Direction {
	case record.Mesh:
		q.followed = cmp.Or(r.Route, r.Rule, "none") // which no rule is called
	case record.Egress:
		q.followed = cmp.Or(r.Route, "none")
	}
	if reached, err := netip.ParseAddrPort(r.Upstream); err == nil {
		q.Answers = []netip.Addr{reached.Addr()}
	}
	return q, true
}
