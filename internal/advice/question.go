package advice

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
)

// Question is one request or connection that is asked about.
type Question struct {
	Title string // "TLS with SNI www.googleapis.com on port 443"
	Chain policy.Chain
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
			return Question{}, fmt.Errorf("say which way: https://%[1]s/, http://%[1]s/ or %[1]s:PORT", authority)
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
	return Question{Title: "plain HTTP " + chain.Method + " " + chain.Path + " for " + host.String() + " on port " + port(chain.Port), Chain: chain}, nil
}

func opaqueTo(host names.Host) Question {
	chain := chainTo(host, 0)
	chain.Sniffed = policy.Opaque
	host.Port = 0
	return Question{Title: "TCP to " + host.String() + " on port " + port(chain.Port), Chain: chain}
}

func port(n uint16) string { return strconv.Itoa(int(n)) }

// OfRecord asks again about what a record tells of. ok is false where it tells of no
// destination outside.
func OfRecord(f *record.Record) (q Question, ok bool) {
	if f.Direction == record.Ingress {
		return Question{}, false
	}
	chain := policy.Chain{Transport: f.Transport, Port: f.Port, Method: f.Method, Path: f.Path, Upgrade: f.Upgrade}
	if addr, err := netip.ParseAddr(f.Dialled); err == nil {
		chain.Addr = addr
	} else if chain.Dialled, err = names.Parse(f.Dialled); err != nil {
		return Question{}, false
	}
	title := "TCP to " + f.Dialled
	switch f.Sniffed {
	case policy.HTTP:
		chain.Sniffed = policy.HTTP
		var err error
		if chain.Host, err = names.ParseHost(f.Host); err != nil {
			chain.HostBad = f.Host != ""
		}
		title = "plain HTTP " + f.Method + " " + f.Path + " for " + f.Host
	case policy.ClientHello:
		chain.Sniffed = policy.ClientHello
		var err error
		if chain.SNI, err = names.Parse(f.SNI); err != nil {
			chain.SNIBad = f.SNI != ""
		}
		title = "TLS with SNI " + f.SNI
	default:
		chain.Sniffed = policy.Opaque
	}
	return Question{Title: title + " on port " + port(f.Port), Chain: chain}, true
}
