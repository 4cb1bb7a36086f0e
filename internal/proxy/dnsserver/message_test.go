package dnsserver

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"sluice.dev/sluice/internal/names"
	"sluice.dev/sluice/internal/policy"
	"sluice.dev/sluice/internal/wire"
)

// books is a directory with two namespaces.
func books() *Services {
	service := func(short, namespace string) wire.Service {
		return wire.Service{
			Name:  names.MustParse(short + "." + namespace + ".svc.cluster.local"),
			Short: short, Namespace: namespace,
			Ports: []wire.ServicePort{{Port: 9080, Protocol: policy.ProtocolHTTP}},
		}
	}
	return NewServices(&wire.Directory{Domain: "cluster.local", Services: []wire.Service{
		service("details", "default"), service("ratings", "default"), service("billing", "shop"),
	}})
}

// newServer answers for a workload of the namespace default whose rules name
// www.googleapis.com exactly, everything below googleapis.com, and one name
// under the cluster domain.
func newServer(t testing.TB) *Server {
	t.Helper()
	return New(Config{
		Names:     NewTable(TableConfig{}),
		Directory: books().In("default"),
		Named: func(n names.Name) bool {
			return n.Within(names.MustParse("googleapis.com")) || n == names.MustParse("old.cluster.local")
		},
		NamedExactly: func(n names.Name) bool { return n == names.MustParse("www.googleapis.com") },
	})
}

// query packs a question; edns adds an OPT record.
func query(t testing.TB, name string, typ dnsmessage.Type, edns bool) []byte {
	t.Helper()
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 0x1234, RecursionDesired: true})
	must(t, b.StartQuestions())
	must(t, b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET}))
	if edns {
		must(t, b.StartAdditionals())
		var h dnsmessage.ResourceHeader
		must(t, h.SetEDNS0(4096, 0, false))
		must(t, b.OPTResource(h, dnsmessage.OPTResource{}))
	}
	m, err := b.Finish()
	must(t, err)
	return m
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ask sends a question and reads the reply with the library's own parser.
func ask(t testing.TB, s *Server, name string, typ dnsmessage.Type) dnsmessage.Message {
	t.Helper()
	return unpack(t, s.Answer(query(t, name, typ, true), nil))
}

func unpack(t testing.TB, reply []byte) dnsmessage.Message {
	t.Helper()
	if len(reply) > 512 {
		t.Fatalf("the reply has %d bytes, more than the oldest client takes", len(reply))
	}
	var m dnsmessage.Message
	must(t, m.Unpack(reply))
	return m
}

// extended returns the extended error of a reply as "CODE text".
func extended(t testing.TB, m dnsmessage.Message) (code int, text string) {
	t.Helper()
	for _, r := range m.Additionals {
		opt, ok := r.Body.(*dnsmessage.OPTResource)
		if !ok {
			continue
		}
		for _, o := range opt.Options {
			if o.Code == 15 {
				return int(binary.BigEndian.Uint16(o.Data)), string(o.Data[2:])
			}
		}
	}
	return -1, ""
}

func told(t testing.TB, m dnsmessage.Message) netip.Addr {
	t.Helper()
	if m.RCode != dnsmessage.RCodeSuccess || len(m.Answers) != 1 {
		t.Fatalf("rcode %v with %d answers, want one address", m.RCode, len(m.Answers))
	}
	switch body := m.Answers[0].Body.(type) {
	case *dnsmessage.AResource:
		return netip.AddrFrom4(body.A)
	case *dnsmessage.AAAAResource:
		return netip.AddrFrom16(body.AAAA)
	}
	t.Fatalf("%T is no address", m.Answers[0].Body)
	return netip.Addr{}
}

func TestANameHasOneAddressInEachFamilyForEverySpelling(t *testing.T) {
	for _, c := range []struct {
		spellings []string
		name      string
	}{
		{[]string{"details.", "details.default.", "details.default.svc.", "Details.Default.SVC.Cluster.Local."}, "details.default.svc.cluster.local"},
		{[]string{"billing.shop.", "billing.shop.svc.", "billing.shop.svc.cluster.local."}, "billing.shop.svc.cluster.local"},
		{[]string{"www.googleapis.com.", "WwW.GoogleApis.Com."}, "www.googleapis.com"},
		{[]string{"www.example.com."}, "www.example.com"},
		{[]string{"old.cluster.local."}, "old.cluster.local"},
		{[]string{"a_b.example.com."}, "a_b.example.com"},
	} {
		s := newServer(t)
		for _, spelling := range c.spellings {
			for typ, want := range map[dnsmessage.Type]netip.Addr{
				dnsmessage.TypeA:    netip.MustParseAddr("198.19.0.1"),
				dnsmessage.TypeAAAA: netip.MustParseAddr("2001:2::1"),
			} {
				m := ask(t, s, spelling, typ)
				if got := told(t, m); got != want {
					t.Errorf("%s %v: %v, want %v", spelling, typ, got, want)
				}
				if got := m.Answers[0].Header.TTL; got != TTL {
					t.Errorf("%s: TTL %d, want %d", spelling, got, TTL)
				}
				if n, ok := s.table.Lookup(want); !ok || n.String() != c.name {
					t.Errorf("%s: %v is %q, want %q", spelling, want, n, c.name)
				}
			}
		}
	}
}

func TestWhatDoesNotExistIsNXDOMAIN(t *testing.T) {
	s := newServer(t)
	for _, name := range []string{
		"nothing.",                           // a single label that is no service
		"billing.",                           // a service of another namespace
		"nothing.default.svc.cluster.local.", // below the search suffix
		"www.example.com.default.svc.cluster.local.",
		"www.example.com.cluster.local.",
		"www.googleapis.com.cluster.local.",
		"cluster.local.",
		"localhost.default.svc.cluster.local.",
		"127.0.0.1.",
		"0x7f.1.",
		"10.1.2.3.default.svc.cluster.local.",
		"bad name.example.com.",
		strings.Repeat("a", 63) + ".-b.example.com.",
		".",
		"9.9.9.9.in-addr.arpa.",
		"1.0.19.198.in-addr.arpa.", // synthetic, but nobody asked for the name
		"in-addr.arpa.",
		"19.198.in-addr.arpa.",
		"ip6.arpa.",
		"8.8.8.8.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.8.4.0.6.8.4.1.0.0.2.ip6.arpa.",
		"x." + strings.Repeat("0.", 31) + "ip6.arpa.",
		strings.Repeat("00", 31) + "0.ip6.arpa.",
	} {
		for _, typ := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypePTR} {
			if m := ask(t, s, name, typ); m.RCode != dnsmessage.RCodeNameError || len(m.Answers) != 0 {
				t.Errorf("%s %v: %v with %d answers, want NXDOMAIN", name, typ, m.RCode, len(m.Answers))
			}
		}
	}
	if n := s.table.Stats().Names; n != 0 {
		t.Errorf("%d names got an address, want none", n)
	}
}

func TestLocalhostIsTheWorkloadsOwnLoopback(t *testing.T) {
	s := newServer(t)
	for _, name := range []string{"localhost.", "LOCALHOST.", "db.localhost."} {
		if got := told(t, ask(t, s, name, dnsmessage.TypeA)); got != netip.MustParseAddr("127.0.0.1") {
			t.Errorf("%s: %v", name, got)
		}
		if got := told(t, ask(t, s, name, dnsmessage.TypeAAAA)); got != netip.IPv6Loopback() {
			t.Errorf("%s: %v", name, got)
		}
	}
	if m := ask(t, s, "notlocalhost.", dnsmessage.TypeA); m.RCode != dnsmessage.RCodeNameError {
		t.Errorf("notlocalhost: %v", m.RCode)
	}
}

func TestPTRNamesASyntheticAddress(t *testing.T) {
	s := newServer(t)
	ask(t, s, "www.example.com.", dnsmessage.TypeA)
	for _, name := range []string{
		"1.0.19.198.in-addr.arpa.",
		"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.1.0.0.2.ip6.arpa.",
		"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.1.0.0.2.IP6.ARPA.",
	} {
		m := ask(t, s, name, dnsmessage.TypePTR)
		if len(m.Answers) != 1 || m.Answers[0].Body.(*dnsmessage.PTRResource).PTR.String() != "www.example.com." {
			t.Errorf("%s: %v %v", name, m.RCode, m.Answers)
		}
		if m := ask(t, s, name, dnsmessage.TypeA); m.RCode != dnsmessage.RCodeSuccess || len(m.Answers) != 0 {
			t.Errorf("%s A: %v %v, want no data", name, m.RCode, m.Answers)
		}
	}
}

func TestOtherTypesAreEmptyAndSayWhy(t *testing.T) {
	s := newServer(t)
	for _, c := range []struct {
		name string
		typ  dnsmessage.Type
		code int
		text string
	}{
		{"www.googleapis.com.", dnsmessage.TypeHTTPS, 15, "sluice answers A, AAAA, PTR, SRV and TXT only"},
		{"www.googleapis.com.", dnsmessage.TypeSVCB, 15, "sluice answers A, AAAA, PTR, SRV and TXT only"},
		{"_dns.resolver.arpa.", dnsmessage.TypeSVCB, 15, "sluice answers A, AAAA, PTR, SRV and TXT only"},
		{"secret-data.googleapis.com.", dnsmessage.TypeTXT, 15, "sluice answers this for hosts that a rule allows"},
		{"example.com.", dnsmessage.TypeMX, 15, "sluice answers A, AAAA, PTR, SRV and TXT only"},
		{"example.com.", dnsmessage.Type(99), 15, "sluice answers A, AAAA, PTR, SRV and TXT only"},
		{"details.", dnsmessage.TypeTXT, 15, "sluice answers this for hosts that a rule allows"},
		{"localhost.", dnsmessage.TypeMX, 15, "sluice answers A, AAAA, PTR, SRV and TXT only"},
		{"_ldap._tcp.example.com.", dnsmessage.TypeSRV, 15, "sluice answers this for hosts that a rule allows"},
		{"-x.example.com.", dnsmessage.TypeTXT, 15, "sluice answers this for hosts that a rule allows"},
	} {
		m := ask(t, s, c.name, c.typ)
		if code, text := extended(t, m); m.RCode != dnsmessage.RCodeSuccess || len(m.Answers) != 0 || code != c.code || text != c.text {
			t.Errorf("%s %v: %v, %d answers, extended error %d %q", c.name, c.typ, m.RCode, len(m.Answers), code, text)
		}
		if m := unpack(t, s.Answer(query(t, c.name, c.typ, false), nil)); len(m.Additionals) != 0 {
			t.Errorf("%s %v: an OPT record for a client that sent none", c.name, c.typ)
		}
	}
	if n := s.table.Stats().Names; n != 0 {
		t.Errorf("%d names got an address, want none", n)
	}
}

func TestANYIsAnsweredWithHINFO(t *testing.T) {
	m := ask(t, newServer(t), "www.example.com.", dnsmessage.TypeALL)
	if len(m.Answers) != 1 || m.Answers[0].Header.Type != dnsmessage.TypeHINFO {
		t.Fatalf("answers %v, want HINFO", m.Answers)
	}
	if got := string(m.Answers[0].Body.(*dnsmessage.UnknownResource).Data); got != "\x07RFC8482\x00" {
		t.Errorf("HINFO %q", got)
	}
}

func TestWithoutIPv6AAAAIsEmpty(t *testing.T) {
	s := newServer(t)
	s.withoutV6 = true
	for _, name := range []string{"www.example.com.", "localhost.", "details."} {
		if m := ask(t, s, name, dnsmessage.TypeAAAA); m.RCode != dnsmessage.RCodeSuccess || len(m.Answers) != 0 {
			t.Errorf("%s AAAA: %v %v, want no data", name, m.RCode, m.Answers)
		}
		told(t, ask(t, s, name, dnsmessage.TypeA))
	}
}

func TestTheQuestionIsEchoedByteByByte(t *testing.T) {
	q := query(t, "wWw.ExAmPlE.cOm.", dnsmessage.TypeA, false)
	q[2] |= 0x01 // RD
	q[3] |= 0x10 // CD
	r := newServer(t).Answer(q, nil)
	if string(r[12:len(q)]) != string(q[12:]) {
		t.Errorf("the question came back as %q", r[12:len(q)])
	}
	if r[0] != q[0] || r[1] != q[1] || r[2] != 0x81 || r[3] != 0x90 {
		t.Errorf("header % x, want the id, QR RD and RA CD", r[:4])
	}
}

// packed builds messages that no library would.
func packed(header [6]uint16, rest string) []byte {
	var b []byte
	for _, n := range header {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	return append(b, rest...)
}

const (
	wwwExample = "\x03www\x07example\x03com\x00"
	inA        = "\x00\x01\x00\x01"
	opt        = "\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00"
)

func hostileMessages() map[string]struct {
	message []byte
	rcode   int // -1: silence
} {
	type hostile = struct {
		message []byte
		rcode   int
	}
	return map[string]hostile{
		"nothing":                     {nil, -1},
		"eleven bytes":                {make([]byte, 11), -1},
		"a response":                  {packed([6]uint16{1, 0x8000, 1}, wwwExample+inA), -1},
		"no question":                 {packed([6]uint16{1, 0x100}, ""), 1},
		"two questions":               {packed([6]uint16{1, 0x100, 2}, wwwExample+inA+wwwExample+inA), 1},
		"65,535 questions":            {packed([6]uint16{1, 0x100, 0xffff}, wwwExample+inA), 1},
		"a question cut short":        {packed([6]uint16{1, 0x100, 1}, "\x03www\x07exa"), 1},
		"a question without a class":  {packed([6]uint16{1, 0x100, 1}, wwwExample+"\x00\x01"), 1},
		"a pointer to itself":         {packed([6]uint16{1, 0x100, 1}, "\xc0\x0c"+inA), 1},
		"a pointer forward":           {packed([6]uint16{1, 0x100, 1}, "\xc0\x12"+inA+wwwExample), 1},
		"a pointer into the header":   {packed([6]uint16{1, 0x100, 1}, "\x03www\xc0\x04"+inA), 1},
		"two pointers in a circle":    {packed([6]uint16{1, 0x100, 1, 0, 0, 1}, "\xc0\x0e\xc0\x0c"+inA), 1},
		"a label of 64 bytes":         {packed([6]uint16{1, 0x100, 1}, "\x40"+strings.Repeat("a", 64)+"\x00"+inA), 1},
		"a name of 300 bytes":         {packed([6]uint16{1, 0x100, 1}, strings.Repeat("\x3b"+strings.Repeat("a", 59), 5)+"\x00"+inA), 1},
		"a dot inside a label":        {packed([6]uint16{1, 0x100, 1}, "\x07www.exa\x00"+inA), 1},
		"type 0":                      {packed([6]uint16{1, 0x100, 1}, wwwExample+"\x00\x00\x00\x01"), 1},
		"type OPT":                    {packed([6]uint16{1, 0x100, 1}, wwwExample+"\x00\x29\x00\x01"), 1},
		"AXFR":                        {packed([6]uint16{1, 0x100, 1}, wwwExample+"\x00\xfc\x00\x01"), 5},
		"TSIG":                        {packed([6]uint16{1, 0x100, 1}, wwwExample+"\x00\xfa\x00\x01"), 5},
		"class CHAOS":                 {packed([6]uint16{1, 0x100, 1}, "\x07version\x04bind\x00\x00\x10\x00\x03"), 5},
		"class ANY":                   {packed([6]uint16{1, 0x100, 1}, wwwExample+"\x00\x01\x00\xff"), 5},
		"NOTIFY":                      {packed([6]uint16{1, 4 << 11, 1}, wwwExample+"\x00\x06\x00\x01"), 4},
		"UPDATE":                      {packed([6]uint16{1, 5 << 11, 1}, wwwExample+"\x00\x06\x00\x01"), 4},
		"two OPT records":             {packed([6]uint16{1, 0x100, 1, 0, 0, 2}, wwwExample+inA+opt+opt), 1},
		"EDNS version 1":              {packed([6]uint16{1, 0x100, 1, 0, 0, 1}, wwwExample+inA+"\x00\x00\x29\x10\x00\x00\x01\x00\x00\x00\x00"), 16},
		"a record that is not there":  {packed([6]uint16{1, 0x100, 1, 0, 0, 1}, wwwExample+inA), 1},
		"an OPT record cut short":     {packed([6]uint16{1, 0x100, 1, 0, 0, 1}, wwwExample+inA+opt[:9]), 1},
		"an OPT record of a long lie": {packed([6]uint16{1, 0x100, 1, 0, 0, 1}, wwwExample+inA+opt[:9]+"\xff\xff"), 1},
		"bytes after the end":         {packed([6]uint16{1, 0x100, 1}, wwwExample+inA+strings.Repeat("x", 5000)), 0},
		"an answer inside a question": {packed([6]uint16{1, 0x100, 1, 1}, wwwExample+inA+"\xc0\x0c"+inA+"\x00\x00\x00\x3c\x00\x04\x01\x02\x03\x04"), 0},
	}
}

func TestHostileMessagesAreRefusedByName(t *testing.T) {
	for name, c := range hostileMessages() {
		t.Run(name, func(t *testing.T) {
			reply := newServer(t).Answer(c.message, nil)
			if reply == nil || c.rcode < 0 {
				if reply != nil || c.rcode >= 0 {
					t.Fatalf("reply % x, want rcode %d", reply, c.rcode)
				}
				return
			}
			m := unpack(t, reply)
			rcode := int(m.RCode)
			for _, r := range m.Additionals {
				rcode = int(r.Header.ExtendedRCode(m.RCode))
			}
			if rcode != c.rcode || m.ID != 1 {
				t.Errorf("rcode %d id %d, want %d and 1", rcode, m.ID, c.rcode)
			}
		})
	}
}

// A resolver with ndots:5 and Kubernetes' search list appends every suffix
// before it asks for the name itself.
func TestASearchListEndsAtTheRightName(t *testing.T) {
	s := newServer(t)
	search := []string{}
	for _, n := range s.directory.Search() {
		search = append(search, n.String())
	}
	if got := strings.Join(search, " "); got != "default.svc.cluster.local svc.cluster.local cluster.local" {
		t.Fatalf("search list %q", got)
	}
	for _, c := range []struct{ ask, found string }{
		{"ratings", "ratings.default.svc.cluster.local"},
		{"ratings.default", "ratings.default.svc.cluster.local"},
		{"ratings.default.svc", "ratings.default.svc.cluster.local"},
		{"billing.shop", "billing.shop.svc.cluster.local"},
		{"www.example.com", "www.example.com"},
		{"www.googleapis.com", "www.googleapis.com"},
		{"example.com", "example.com"},
		{"nothing", ""},
	} {
		found := ""
		for _, name := range append(withSuffixes(c.ask, search), c.ask) {
			m := ask(t, s, name+".", dnsmessage.TypeA)
			if m.RCode == dnsmessage.RCodeNameError {
				continue
			}
			n, _ := s.table.Lookup(told(t, m))
			found = n.String()
			break
		}
		if found != c.found {
			t.Errorf("%s ends at %q, want %q", c.ask, found, c.found)
		}
	}
}

func withSuffixes(name string, search []string) (all []string) {
	for _, suffix := range search {
		all = append(all, name+"."+suffix)
	}
	return all
}

func TestTheLongestRepliesFitTheOldestClient(t *testing.T) {
	s := newServer(t)
	label := strings.Repeat("a", 63)
	longest := label + "." + label + "." + label + "." + label[:61] + "."
	for _, typ := range []dnsmessage.Type{dnsmessage.TypeAAAA, dnsmessage.TypeALL, dnsmessage.TypeSRV, dnsmessage.TypeTXT} {
		reply := s.Answer(query(t, longest, typ, true), nil)
		if len(reply) > MaxReply {
			t.Errorf("%v: %d bytes, want at most %d", typ, len(reply), MaxReply)
		}
	}
	told(t, ask(t, s, longest, dnsmessage.TypeAAAA))
	m := unpack(t, s.Answer(query(t, "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.1.0.0.2.ip6.arpa.", dnsmessage.TypePTR, true), nil))
	if len(m.Answers) != 1 || m.Answers[0].Body.(*dnsmessage.PTRResource).PTR.String() != longest {
		t.Errorf("PTR of the longest name: %v", m.Answers)
	}
	if MaxReply > 512 {
		t.Errorf("MaxReply %d is more than 512", MaxReply)
	}
}

func TestEachMessageIsCountedOnce(t *testing.T) {
	s := newServer(t)
	for _, c := range hostileMessages() {
		s.Answer(c.message, nil)
	}
	ask(t, s, "nothing.", dnsmessage.TypeA)
	ask(t, s, "example.com.", dnsmessage.TypeMX)
	got := s.Stats()
	if got.Ignored != 3 || got.Answered != 2 || got.Unknown != 1 || got.Empty != 1 || got.Refused != 7 {
		t.Errorf("%+v", got)
	}
	if sum := got.Ignored + got.Answered + got.Unknown + got.Empty + got.Refused + got.Malformed + got.Failed; sum != uint64(len(hostileMessages())+2) {
		t.Errorf("%d messages counted, want %d", sum, len(hostileMessages())+2)
	}
}

func TestWhoKnowsANameDecidesItsHalfAndItsRate(t *testing.T) {
	s := newServer(t)
	for _, c := range []struct {
		name    string
		service bool
		want    Naming
	}{
		{"details.default.svc.cluster.local", true, Exactly},
		{"www.googleapis.com", false, Exactly},
		{"fcm.googleapis.com", false, UnderWildcard},
		{"www.example.com", false, Unnamed},
	} {
		if got := s.naming(names.MustParse(c.name), c.service); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	for _, c := range hostileMessages() {
		f.Add(c.message)
	}
	for _, name := range []string{"details.", "www.example.com.", "localhost.", "1.0.19.198.in-addr.arpa.", "xn--bcher-kva.example.", "127.0.0.1."} {
		for _, typ := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypePTR, dnsmessage.TypeHTTPS, dnsmessage.TypeSRV, dnsmessage.TypeALL} {
			f.Add(query(f, name, typ, true))
		}
	}
	s := newServer(f)
	s.upstream = &ours{allowed: []string{".example.com"}, exist: []string{"x.example.com"}, records: map[string]Records{
		"www.example.com": {Services: services("a.example.net"), TTL: 1},
	}}
	f.Fuzz(func(t *testing.T, message []byte) {
		reply := s.Answer(message, nil)
		if len(message) < 12 || message[2]&0x80 != 0 {
			if reply != nil {
				t.Fatalf("a reply to what is no question: % x", reply)
			}
			return
		}
		if len(reply) > MaxReply {
			t.Fatalf("%d bytes", len(reply))
		}
		m := unpack(t, reply)
		if m.ID != binary.BigEndian.Uint16(message) || !m.Response || len(m.Answers) > 1 {
			t.Fatalf("reply %+v", m)
		}
		if m.RCode == dnsmessage.RCodeSuccess && len(m.Questions) != 1 {
			t.Fatalf("success without the question: %+v", m)
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	s := newServer(b)
	q, into := query(b, "www.googleapis.com.", dnsmessage.TypeA, true), make([]byte, 0, MaxReply)
	b.ReportAllocs()
	for b.Loop() {
		s.Answer(q, into)
	}
}
