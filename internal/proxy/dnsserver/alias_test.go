package dnsserver

import (
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/wire"
)

// A workload that calls an alias dials the host for which that stands: its rules say
// whether it may, and the alias is not a way around them.
func TestAnAliasStandsForItsHostWhoseRulesCount(t *testing.T) {
	s := newServer(t)
	s.directory = NewServices(&wire.Directory{Domain: "cluster.local", Services: []wire.Service{
		{Name: names.MustParse("books.default.svc.cluster.local"), Short: "books", Namespace: "default", Alias: names.MustParse("www.googleapis.com")},
		{Name: names.MustParse("inner.default.svc.cluster.local"), Short: "inner", Namespace: "default", Alias: names.MustParse("details.default.svc.cluster.local")},
		{Name: names.MustParse("details.default.svc.cluster.local"), Short: "details", Namespace: "default"},
	}}).In("default")
	for asked, host := range map[string]string{
		"books.": "www.googleapis.com", "books.default.svc.cluster.local.": "www.googleapis.com", "inner.": "details.default.svc.cluster.local",
	} {
		reply := ask(t, s, asked, dnsmessage.TypeA)
		if len(reply.Answers) != 1 {
			t.Errorf("%s: %v", asked, reply.Answers)
			continue
		}
		answered := reply.Answers[0].Body.(*dnsmessage.AResource).A
		told, err := s.table.Tell(names.MustParse(host), Exactly)
		if err != nil || told.V4.As4() != answered {
			t.Errorf("%s is answered with %v, not with the address of %s, %v", asked, answered, host, told.V4)
		}
	}
}

// The Pods of a StatefulSet have names of their own below that of their service; others below
// it are nobody's.
func TestAnEndpointWithANameOfItsOwnIsAnsweredAndNoOtherBelowItsService(t *testing.T) {
	s := newServer(t)
	first := names.MustParse("db-0.db.default.svc.cluster.local")
	s.directory = NewServices(&wire.Directory{Domain: "cluster.local", Services: []wire.Service{
		{Name: names.MustParse("db.default.svc.cluster.local"), Short: "db", Namespace: "default"},
	}}).WithHosts(map[names.Name]struct{}{first: {}}).In("default")
	told, err := s.table.Tell(first, Exactly)
	if err != nil {
		t.Fatal(err)
	}
	for _, asked := range []string{"db-0.db.default.svc.cluster.local.", "db-0.db.default.svc.", "db-0.db.default.", "db-0.db."} {
		reply := ask(t, s, asked, dnsmessage.TypeA)
		if len(reply.Answers) != 1 || reply.Answers[0].Body.(*dnsmessage.AResource).A != told.V4.As4() {
			t.Errorf("%s: %v", asked, reply.Answers)
		}
	}
	for _, asked := range []string{"db-1.db.default.svc.cluster.local.", "x.db-0.db.default.svc.cluster.local.", "db-0.db.other.svc.cluster.local.", "db-0.other.default.svc.cluster.local.", "db-0.default.svc.cluster.local."} {
		if reply := ask(t, s, asked, dnsmessage.TypeA); reply.RCode != dnsmessage.RCodeNameError {
			t.Errorf("%s: %v, %v", asked, reply.RCode, reply.Answers)
		}
	}
}
