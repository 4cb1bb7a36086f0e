package run

import (
	"errors"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/rulefile"
	"sluice.dev/sluice/internal/wire"
)

func TestADenialIsToldWithTheAllowThatHelps(t *testing.T) {
	var warnings strings.Builder
	rules, err := rulefile.Rules{Allow: []string{"www.googleapis.com"}, Audit: true}.Compile(wire.Workload{}, &warnings)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		record record.Record
		want   string
	}{
		"a name": {record.Record{Dialled: "www.example.com", Port: 443, SNI: "www.example.com", Sniffed: policy.ClientHello, Reason: "no-rule"},
			"allow it with --allow 'www.example.com:443'"},
		"the name behind an address": {record.Record{Dialled: "198.51.100.7", Port: 443, SNI: "www.example.com", Sniffed: policy.ClientHello, Reason: "no-rule"},
			"allow it with --allow 'www.example.com:443'"},
		"a request": {record.Record{Dialled: "www.example.com", Port: 80, Host: "www.example.com", Method: "GET", Path: "/", Sniffed: policy.HTTP, Reason: "no-rule"},
			"allow it with --allow 'www.example.com:80'"},
		"bytes": {record.Record{Dialled: "db.example.com", Port: 3306, Sniffed: policy.Opaque, Reason: "no-rule"},
			"allow it with --allow 'db.example.com:3306'"},
		"names that differ":   {record.Record{Dialled: "www.example.com", Port: 443, SNI: "doh.example.net", Sniffed: policy.ClientHello, Reason: "name-mismatch"}, ""},
		"what the dial found": {record.Record{Dialled: "www.googleapis.com", Port: 443, SNI: "www.googleapis.com", Sniffed: policy.ClientHello, Reason: "private-address"}, ""},
		"no name at all":      {record.Record{Dialled: "a'$(reboot)'", Port: 443, Sniffed: policy.Opaque, Reason: "no-rule"}, ""},
	} {
		if got := allowAdvice(&c.record, rules, wire.Workload{}); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

type notFound struct{ error }

func (notFound) ExitCode() int { return 127 }

func TestTheStatusOfACommandThatDidNotStartIsAShells(t *testing.T) {
	if code := exitOf(notFound{errors.New("not found")}); code != 127 {
		t.Errorf("not found: %d", code)
	}
	if code := exitOf(errors.New("no namespaces")); code != ExitFailed {
		t.Errorf("no sandbox: %d", code)
	}
}
