package dnsserver

import (
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func TestASteadyQuestionAllocatesNothing(t *testing.T) {
	s := newServer(t)
	into := make([]byte, 0, MaxReply)
	ask(t, s, "www.example.com.", dnsmessage.TypeA)
	for _, c := range []struct {
		name string
		typ  dnsmessage.Type
	}{
		{"www.googleapis.com.", dnsmessage.TypeA},
		{"WWW.GoogleAPIs.com.", dnsmessage.TypeAAAA},
		{"details.", dnsmessage.TypeA},
		{"nothing.default.svc.cluster.local.", dnsmessage.TypeA},
		{"www.example.com.", dnsmessage.TypeHTTPS},
		{"localhost.", dnsmessage.TypeA},
	} {
		q := query(t, c.name, c.typ, true)
		s.Answer(q, into)
		if n := testing.AllocsPerRun(100, func() { s.Answer(q, into) }); n != 0 {
			t.Errorf("%s %v: %v allocations", c.name, c.typ, n)
		}
	}
}

// A reply is written into the buffer that was given: what is remembered of a
// question must not be part of it, nor of the message.
func TestWhatIsRememberedOutlivesTheMessage(t *testing.T) {
	s := newServer(t)
	message := query(t, "first.example.com.", dnsmessage.TypeA, false)
	other := query(t, "other.example.com.", dnsmessage.TypeA, false)
	told(t, unpack(t, s.Answer(message, nil)))
	copy(message, other) // the next packet in the same buffer
	told(t, unpack(t, s.Answer(message, nil)))
	for i, want := range []string{"first.example.com", "other.example.com"} {
		if n, ok := s.table.Lookup(netip.AddrFrom4([4]byte{198, 19, 0, byte(i + 1)})); !ok || n.String() != want {
			t.Errorf("address %d is %q, want %q", i+1, n, want)
		}
	}
}

func TestSpellingsAreBounded(t *testing.T) {
	var s spellings
	for i := range 3 * maxSpellings {
		spelling := fmt.Sprintf("N%d.example.com.", i)
		n, err := s.parse([]byte(spelling))
		if err != nil || n != numbered("n", i) {
			t.Fatalf("%s is %q, %v", spelling, n, err)
		}
		if len(s.known) > maxSpellings {
			t.Fatalf("%d spellings are remembered", len(s.known))
		}
	}
	before := len(s.known)
	if _, err := s.parse([]byte("127.0.0.1.")); err == nil || len(s.known) != before {
		t.Errorf("what is no name: %v, %d remembered", err, len(s.known)-before)
	}
}
