package capture

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/capture/seqpacket"
	"sluice.dev/sluice/internal/format/shape"
)

func TestTheShapeOfWhatIsAskedIsThatOfItsFormat(t *testing.T) {
	shape.Check(t, "asked", questionsFormat, asked{})
	shape.Check(t, "told", questionsFormat, told{})
}

func TestWhatMakesNoSenseAboutAConnectIsRefused(t *testing.T) {
	for message, want := range map[string]string{
		`{"format":1,"number":1,"to":"192.0.2.1:22","from":"198.18.0.1:40000"}`:   "",
		`{"format":1,"to":"192.0.2.1:22","from":"198.18.0.1:40000"}`:              "without a number",
		`{"format":1,"number":1,"to":"192.0.2.1:22","from":""}`:                   "not two addresses",
		`{"format":1,"number":1,"to":"[fe80::1%lo]:22","from":"[fd00::1]:40000"}`: "not two addresses",
		`{"format":1,"number":1,"to":"192.0.2.1:22","from":"[fd00::1]:40000"}`:    "not of one family",
		`{"format":2,"number":1}`:            "format 2",
		`{"format":7,"what":1}`:              "format 7",
		`{"format":1,"number":1,"what":"x"}`: "what",
		`{`:                                  "not valid JSON",
	} {
		_, err := decodeAsked([]byte(message))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", message, err, want)
		}
	}
	for message, want := range map[string]string{
		`{"format":1,"number":1,"rules":1}`:                                                  "",
		`{"format":1,"number":1,"errno":111,"rules":1}`:                                      "",
		`{"format":1,"rules":1,"inUse":{"quiet":[80,443]}}`:                                  "",
		`{"format":1,"rules":1}`:                                                             "without a number",
		`{"format":1,"number":1,"errno":1,"rules":1}`:                                        "which no connect has",
		`{"format":1,"rules":1,"inUse":{"quiet":[` + strings.Repeat("1,", maxQuiet) + `1]}}`: "at most",
	} {
		_, err := decodeTold([]byte(message))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", message, err, want)
		}
	}
}

// A message over the bound, or one that makes no sense, ends the questions of that
// sandbox; nothing else is touched.
func TestASandboxThatAsksNonsenseIsAskedNoMore(t *testing.T) {
	for what, message := range map[string]string{"too long": strings.Repeat(" ", maxQuestionSize+1), "nonsense": "x", "another format": `{"format":9}`} {
		ours, file, err := seqpacket.Pair()
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := seqpacket.Conn(dupOf(t, file))
		if err != nil {
			t.Fatal(err)
		}
		file.Close()
		if _, err := ours.Write([]byte(message)); err != nil {
			t.Fatal(err)
		}
		q := newQuestions(theirs)
		if err := q.Serve(func(Connecting, func(Answer)) { t.Errorf("%s: it was taken", what) }); err == nil {
			t.Errorf("%s: no error", what)
		}
		if n, err := ours.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%s: the other end is not told: %d, %v", what, n, err)
		}
		q.Close()
		ours.Close()
	}
}

// What a proxy says that init does not understand ends the asking: what waits goes on.
func TestAProxyThatSaysNonsenseIsNotAskedAnyMore(t *testing.T) {
	ours, file, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := seqpacket.Conn(dupOf(t, file))
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	file.Close()
	a, err := newAsker(ours, &holder{raw: map[bool]int{true: -1, false: -1}, packets: map[bool]int{true: 0, false: -1}, held: make(map[route]*heldSYN)})
	if err != nil {
		t.Fatal(err)
	}
	to := netip.MustParseAddrPort("192.0.2.1:22")
	if a.Asks(to) {
		t.Error("it asks before the proxy has said anything")
	}
	seqpacket.Send(proxy, told{Format: questionsFormat, Rules: 1, InUse: &ruling{Quiet: []uint16{80}}})
	a.Await()
	if !a.Asks(to) {
		t.Error("it does not ask once the proxy has said which rules are in force")
	}
	for _, quiet := range []string{"192.0.2.1:80", "192.0.2.1:53", "127.0.0.1:22", "198.18.0.1:22", "[2001:db8::1]:22"} {
		if a.Asks(netip.MustParseAddrPort(quiet)) {
			t.Errorf("it asks about %s", quiet)
		}
	}
	proxy.Write([]byte("nonsense"))
	eventually(t, "it does not ask", func() bool { return !a.Asks(to) })
	a.Await() // nor is anything waited for
}

// What is known of destinations is bounded, and forgotten with the rules.
func TestWhatIsNotToBeAskedAboutIsBoundedAndForgotten(t *testing.T) {
	a := &Asker{hold: &holder{raw: map[bool]int{true: -1}}, waiting: make(map[uint64]*Pending)}
	begin := func(rules uint64) *inUse {
		now := &inUse{rules: rules, always: make(map[netip.AddrPort]struct{})}
		a.inUse.Store(now)
		return now
	}
	now := begin(1)
	for i := range maxAlways + 10 {
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), 22)
		a.waiting[1] = &Pending{held: &heldSYN{route: route{to: to}}}
		a.remember(1, 1)
		if _, known := now.always[to]; !known || len(now.always) > maxAlways {
			t.Fatalf("%d are known, the last one: %t", len(now.always), known)
		}
	}
	if now = begin(2); len(now.always) != 0 {
		t.Error("new rules know of old destinations")
	}
	a.remember(1, 1) // answered by the rules of before
	if len(now.always) != 0 {
		t.Error("an answer by the rules of before counts")
	}
}

func dupOf(t *testing.T, file interface{ Fd() uintptr }) int {
	t.Helper()
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func FuzzQuestions(f *testing.F) {
	f.Add([]byte(`{"format":1,"number":1,"to":"192.0.2.1:22","from":"198.18.0.1:40000"}`))
	f.Add([]byte(`{"format":1,"number":1,"errno":111,"always":true,"rules":3}`))
	f.Add([]byte(`{"format":1,"rules":1,"inUse":{"quiet":[80,443]}}`))
	f.Add([]byte(`{"format":1,"number":1,"to":"[fe80::1%lo]:22","from":"[::ffff:1.2.3.4]:1"}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		if a, err := decodeAsked(message); err == nil {
			again, err := json.Marshal(a)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := decodeAsked(again); err != nil || b != a {
				t.Fatalf("%s: %+v, then %+v, %v", message, a, b, err)
			}
		}
		if said, err := decodeTold(message); err == nil && said.InUse != nil && len(said.InUse.Quiet) > maxQuiet {
			t.Fatal("over the bound")
		}
	})
}

// packets of IPv4, with options, and of IPv6, as a kernel sends them.
func packetsOf() (four, options, six []byte) {
	tcp := []byte{0x9c, 0x40, 0, 22, 1, 2, 3, 4, 0, 0, 0, 0, 0x60, flagSYN, 0xff, 0xff, 0xab, 0xcd, 0, 0, 2, 4, 5, 0xb4}
	header := []byte{0x45, 0, 0, 44, 0, 0, 0x40, 0, 64, 6, 0, 0, 198, 18, 0, 1, 192, 0, 2, 7}
	four = append(bytes.Clone(header), tcp...)
	header[0] = 0x46
	options = append(append(bytes.Clone(header), 1, 1, 1, 0), tcp...)
	six = append([]byte{0x60, 0, 0, 0, 0, byte(len(tcp)), 6, 64}, make([]byte, 32)...)
	six[8], six[24] = 0xfd, 0x20
	return four, options, append(six, tcp...)
}

func TestASYNIsReadAndAnswered(t *testing.T) {
	four, options, six := packetsOf()
	for what, packet := range map[string][]byte{"IPv4": four, "IPv4 with options": options, "IPv6": six} {
		s, ok := parseSYN(bytes.Clone(packet))
		if !ok || s.from.Port() != 40000 || s.to.Port() != 22 || s.from.Addr().Is4() != (packet[0]>>4 == 4) {
			t.Fatalf("%s: %+v, %t", what, s.route, ok)
		}
		sum := func(packet []byte, tcp int, protocol byte) uint16 { // of a right one it is 0
			if protocol == unix.IPPROTO_ICMP {
				return s.checksum(protocol, s.from.Addr(), s.to.Addr(), packet[tcp:])
			}
			return s.checksum(protocol, s.from.Addr(), s.to.Addr(), packet[tcp:])
		}
		if whole := s.whole(); sum(whole, s.tcp, unix.IPPROTO_TCP) != 0 {
			t.Errorf("%s: the checksum of the SYN is wrong", what)
		}
		head := header4
		if s.from.Addr().Is6() {
			head = header6
		}
		reset := s.reset()
		if sum(reset, head, unix.IPPROTO_TCP) != 0 || !bytes.Equal(reset[head:head+4], []byte{0, 22, 0x9c, 0x40}) || !bytes.Equal(reset[head+8:head+12], []byte{1, 2, 3, 5}) {
			t.Errorf("%s: the reset is %x", what, reset)
		}
		protocol := byte(unix.IPPROTO_ICMP)
		if s.from.Addr().Is6() {
			protocol = unix.IPPROTO_ICMPV6
		}
		if message := s.unreachable(true); sum(message, head, protocol) != 0 || message[head+1] != 0 {
			t.Errorf("%s: the message is %x", what, message)
		}
	}
	for what, change := range map[string]func(b []byte) []byte{
		"short":              func(b []byte) []byte { return b[:header4+headerTCP-1] },
		"empty":              func([]byte) []byte { return nil },
		"an answer":          func(b []byte) []byte { b[header4+13] |= flagACK; return b },
		"another protocol":   func(b []byte) []byte { b[9] = unix.IPPROTO_UDP; return b },
		"a header too short": func(b []byte) []byte { b[0] = 0x44; return b },
	} {
		if s, ok := parseSYN(change(bytes.Clone(four))); ok {
			t.Errorf("%s: %+v", what, s.route)
		}
	}
}

func FuzzSYN(f *testing.F) {
	four, options, six := packetsOf()
	f.Add(four)
	f.Add(options)
	f.Add(six)
	six[6] = unix.IPPROTO_DSTOPTS
	f.Add(six)
	f.Fuzz(func(t *testing.T, packet []byte) {
		s, ok := parseSYN(packet)
		if !ok {
			return
		}
		for _, reply := range [][]byte{s.reset(), s.unreachable(true), s.unreachable(false)} {
			if len(reply) > len(packet)+header6+8 {
				t.Fatalf("%d bytes answer %d", len(reply), len(packet))
			}
		}
		if again, ok := parseSYN(s.whole()); !ok || again.route != s.route {
			t.Fatalf("%+v, then %+v", s.route, again.route)
		}
	})
}
