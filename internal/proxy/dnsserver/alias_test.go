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
