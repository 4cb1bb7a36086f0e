package resolve

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"sluice.dev/sluice/internal/refusal"
)

// lookupRecords is what a resolver finds, in short.
func lookupRecords(t *testing.T, r *Resolver, name string, typ dnsmessage.Type) string {
	t.Helper()
	found, err := r.Records(t.Context(), name, typ, nil, nil)
	if err != nil {
		return string(refusal.Of(err).Reason)
	}
	var words []string
	for _, s := range found.Services {
		words = append(words, fmt.Sprintf("%s:%d/%d/%d", s.Host, s.Port, s.Priority, s.Weight))
	}
	for _, text := range found.Texts {
		words = append(words, fmt.Sprintf("%q", text))
	}
	return strings.Join(words, " ") + " " + found.TTL.String()
}

func TestRecordsAreThoseOfTheNameAndOfItsAliases(t *testing.T) {
	var many []string
	for i := range MaxServices + 20 {
		many = append(many, fmt.Sprintf("_many._tcp.example.com. 60 SRV 0 0 1 n%d.example.com.", i))
	}
	for i := range MaxTexts + 5 {
		many = append(many, fmt.Sprintf("many.example.com. 60 TXT t%d", i))
	}
	all := zone(append(many,
		"_a._tcp.example.com. 60 SRV 1 2 443 A.example.com.", "_a._tcp.example.com. 30 SRV 0 0 444 b.example.com.",
		"_alias._tcp.example.com. 20 CNAME _a._tcp.example.com.",
		"_none._tcp.example.com. 60 SRV 0 0 0 .",
		"_address._tcp.example.com. 60 SRV 0 0 1 127.0.0.1.",
		"example.com. 60 TXT one two", "example.com. 60 TXT three",
		"long.example.com. 60 TXT "+strings.Repeat(strings.Repeat("x", 200)+" ", 6),
		"only.example.com. 60 8.8.4.4")...)
	s := serveDNS(t, func(q dnsmessage.Message, tcp bool) [][]byte {
		replies := all(q, tcp)
		if !tcp && len(replies[0]) > udpSize {
			q.Truncated = true
			return [][]byte{answered(q, 0)}
		}
		return replies
	})
	r := newResolver(t, s)
	srv, txt := dnsmessage.TypeSRV, dnsmessage.TypeTXT
	for _, c := range []struct {
		name string
		typ  dnsmessage.Type
		want string
	}{
		{"_a._tcp.example.com", srv, "a.example.com:443/1/2 b.example.com:444/0/0 30s"},
		{"_alias._tcp.example.com", srv, "a.example.com:443/1/2 b.example.com:444/0/0 20s"},
		{"_none._tcp.example.com", srv, " 1m0s"},
		{"_address._tcp.example.com", srv, " 1m0s"},
		{"example.com", txt, `"\x03one\x03two" "\x05three" 1m0s`},
		{"long.example.com", txt, " 1m0s"},
		{"only.example.com", txt, " 0s"},
		{"nothing.example.com", srv, "no-such-name"},
	} {
		if got := lookupRecords(t, r, c.name, c.typ); got != c.want {
			t.Errorf("%s %v: %s, want %s", c.name, c.typ, got, c.want)
		}
	}
	if found, err := r.Records(t.Context(), "_many._tcp.example.com", srv, nil, nil); err != nil || len(found.Services) != MaxServices {
		t.Errorf("%d services, %v", len(found.Services), err)
	}
	if found, err := r.Records(t.Context(), "many.example.com", txt, nil, nil); err != nil || len(found.Texts) != MaxTexts {
		t.Errorf("%d texts, %v", len(found.Texts), err)
	}
	asked := s.asked.Load()
	lookupRecords(t, r, "_a._tcp.example.com", srv)
	lookupRecords(t, r, "nothing.example.com", srv)
	if s.asked.Load() != asked {
		t.Error("what is known was asked for again")
	}
}

func TestManyWhoWantTheSameRecordsAskOnceAndWithinALimit(t *testing.T) {
	release := make(chan struct{})
	s := serveDNS(t, func(q dnsmessage.Message, _ bool) [][]byte {
		<-release
		return [][]byte{answered(q, 0, q.Questions[0].Name.String()+" 60 SRV 0 0 1 a.example.com.")}
	})
	r := newResolver(t, s)
	limit := NewLimit(0.001, 2)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if found, err := r.Records(t.Context(), "_x._tcp.example.com", dnsmessage.TypeSRV, nil, limit); err != nil || len(found.Services) != 1 {
				t.Errorf("%v, %v", found, err)
			}
		})
	}
	eventually(t, "it is asked", func() bool { return s.asked.Load() == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Records(ctx, "_x._tcp.example.com", dnsmessage.TypeSRV, nil, limit); refusal.Of(err).Reason != refusal.ResolveFailed {
		t.Errorf("who does not wait has %v", err)
	}
	close(release)
	all.Wait()
	if n := s.asked.Load(); n != 1 {
		t.Errorf("%d questions", n)
	}
	for i, want := range []refusal.Reason{"", refusal.TooManyNames} {
		_, err := r.Records(t.Context(), fmt.Sprintf("_y%d._tcp.example.com", i), dnsmessage.TypeSRV, nil, limit)
		if got := refusal.Of(err); (got == nil) != (want == "") || got != nil && got.Reason != want {
			t.Errorf("new name %d: %v, want %q", i, err, want)
		}
	}
	r.Close()
	if _, err := r.Records(t.Context(), "_z._tcp.example.com", dnsmessage.TypeSRV, nil, nil); refusal.Of(err).Reason != refusal.ResolveFailed {
		t.Errorf("after Close: %v", err)
	}
}

func TestRecordsThatAreKeptAreBounded(t *testing.T) {
	s := serveDNS(t, func(q dnsmessage.Message, _ bool) [][]byte { return [][]byte{answered(q, dnsmessage.RCodeNameError)} })
	r := newResolver(t, s)
	r.records.cache.size = 3
	for i := range 5 {
		lookupRecords(t, r, fmt.Sprintf("_x%d._tcp.example.com", i), dnsmessage.TypeSRV)
	}
	if n := len(r.records.cache.entries); n != 3 {
		t.Errorf("%d are kept", n)
	}
	if n := len(r.records.flights); n != 0 {
		t.Errorf("%d look-ups are left", n)
	}
}
