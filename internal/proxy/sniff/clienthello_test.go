package sniff

import (
	"bytes"
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	"sluice.dev/sluice/internal/policy"
)

func TestAHelloOfGoIsReadWhole(t *testing.T) {
	wire := helloOf(t, &tls.Config{ServerName: "www.googleapis.com", NextProtos: []string{"h2", "http/1.1", "x"}})
	r, need := Parse(wire)
	if need != 0 || r.Err != nil || r.Kind != policy.ClientHello {
		t.Fatalf("Parse = %+v, need %d", r, need)
	}
	if r.Name.String() != "www.googleapis.com" || r.SNI != "www.googleapis.com" || r.SNIBad {
		t.Errorf("name %v, SNI %q, bad %v", r.Name, r.SNI, r.SNIBad)
	}
	if !slices.Equal(r.ALPN, []string{"h2", "http/1.1", "x"}) {
		t.Errorf("ALPN %q", r.ALPN)
	}
	if !slices.Contains(r.Groups, uint16(tls.X25519MLKEM768)) || r.MaxVersion != tls.VersionTLS13 || r.ECH {
		t.Errorf("groups %v, version %x, ECH %v", r.Groups, r.MaxVersion, r.ECH)
	}
	if r.HelloBytes != len(wire) {
		t.Errorf("the hello has %d bytes, not %d", r.HelloBytes, len(wire))
	}
	old, _ := Parse(helloOf(t, &tls.Config{ServerName: "a.example", MaxVersion: tls.VersionTLS12}))
	if old.MaxVersion != tls.VersionTLS12 {
		t.Errorf("a client of TLS 1.2 offers %x", old.MaxVersion)
	}
}

func TestBytesBehindTheHelloAreNotItsOwn(t *testing.T) {
	hello := one(madeUp(serverName("a.example")))
	r, need := Parse(append(slices.Clone(hello), 0x17, 3, 3, 0, 1, 'x'))
	if need != 0 || r.Err != nil || r.Name.String() != "a.example" || r.HelloBytes != len(hello) {
		t.Errorf("Parse = %+v, need %d", r, need)
	}
}

func TestAHelloReadsTheSameHoweverItIsCut(t *testing.T) {
	for name, msg := range map[string][]byte{
		"Go's":                helloOf(t, &tls.Config{ServerName: "www.googleapis.com", NextProtos: []string{"h2"}})[recordHeaderLen:],
		"name beyond 1024":    madeUp(padding(1500), serverName("www.googleapis.com"), versions13),
		"17 KiB":              madeUp(padding(17<<10), serverName("www.googleapis.com"), versions13),
		"in many small lists": madeUp(versions13, padding(0), serverName("www.googleapis.com"), extension{999, nil}),
	} {
		for _, size := range []int{1, 3, 4, 5, 100, 1000, maxRecord} {
			wire := records(msg, size)
			if len(wire) > MaxHello {
				continue
			}
			whole, need := Parse(wire)
			if need != 0 || whole.Err != nil || whole.Name.String() != "www.googleapis.com" || whole.HelloBytes != len(wire) {
				t.Errorf("%s in records of %d: %+v, need %d", name, size, whole, need)
			}
			// Byte by byte it asks for more, never for what is there, and the last
			// byte decides.
			calls := 0
			for at := 0; at < len(wire); {
				r, need := Parse(wire[:at])
				calls++
				if r.Err != nil || int(need) <= at || int(need) > len(wire) {
					t.Fatalf("%s in records of %d: after %d of %d bytes it needs %d (%v)", name, size, at, len(wire), need, r.Err)
				}
				if at > 0 && r.Kind != policy.ClientHello {
					t.Errorf("%s in records of %d: after %d bytes it is taken for %v", name, size, at, r.Kind)
				}
				at = int(need)
			}
			if calls > 100 {
				t.Errorf("%s in records of %d: asked %d times", name, size, calls)
			}
		}
	}
}

// A record may end at any byte of the message, and a piece at any byte of the
// stream.
func TestAHelloMayBeCutAtEveryByte(t *testing.T) {
	msg := madeUp(grease(0x1a1a), padding(40), keyShares, serverName("www.googleapis.com"), versions13, grease(0xfafa))
	for cut := 1; cut < len(msg); cut++ {
		wire := append(one(msg[:cut]), one(msg[cut:])...)
		for at := range wire {
			if r, need := Parse(wire[:at]); r.Err != nil || int(need) <= at || int(need) > len(wire) {
				t.Fatalf("cut at %d: after %d of %d bytes it needs %d (%v)", cut, at, len(wire), need, r.Err)
			}
		}
		if r, need := Parse(wire); need != 0 || r.Err != nil || r.Name.String() != "www.googleapis.com" || r.HelloBytes != len(wire) {
			t.Fatalf("cut at %d: %+v, need %d", cut, r, need)
		}
	}
}

func TestGreaseIsPassedOver(t *testing.T) {
	r, need := Parse(one(madeUp(
		grease(0x0a0a),
		extension{extensionSupportedVersions, vector8([]byte{0x1a, 0x1a, 0xfa, 0xfa, 3, 4, 3, 3})},
		extension{extensionSupportedGroups, vector16([]byte{0x2a, 0x2a, 0x11, 0xec, 0, 29})},
		extension{extensionALPN, vector16([]byte{2, 0x3a, 0x3a, 2, 'h', '2'})},
		keyShares, serverName("a.example"), grease(0xcaca))))
	if need != 0 || r.Err != nil || r.Name.String() != "a.example" || r.MaxVersion != tls.VersionTLS13 || r.ECH {
		t.Fatalf("%+v, need %d", r, need)
	}
	if !slices.Equal(r.ALPN, []string{"::", "h2"}) || !slices.Equal(r.Groups, []uint16{0x2a2a, uint16(tls.X25519MLKEM768), 29}) {
		t.Errorf("ALPN %q, groups %x", r.ALPN, r.Groups)
	}
	if _, need := Parse(one(madeUp(grease(0x0a0a), grease(0x0a0a)))); need != 0 {
		t.Errorf("need %d", need)
	}
}

// odd is a hello in the forms that no client sends and some server takes: Go's and Java's
// those with warnings and of other versions, OpenSSL's, Node's and Java's those with empty
// records.
func odd(message []byte) map[string][]byte {
	whole := one(message)
	of := func(version byte, records []byte) []byte {
		records = slices.Clone(records)
		records[1] = version
		return records
	}
	empty, warning := []byte{0x16, 3, 1, 0, 0}, []byte{0x15, 3, 1, 0, 2, 1, 90}
	return map[string][]byte{
		"behind an empty record":                 slices.Concat(empty, whole),
		"behind empty records":                   slices.Concat(bytes.Repeat(empty, 31), whole),
		"behind an empty record of version 9":    slices.Concat(of(9, empty), whole),
		"behind a warning":                       slices.Concat(warning, whole),
		"behind a warning of version 0":          slices.Concat(of(0, warning), whole),
		"behind both":                            slices.Concat(warning, empty, warning, whole),
		"in a record of version 2":               of(2, whole),
		"in a record of version 16":              of(16, whole),
		"in records of version 4":                of(4, records(message, len(message)-1)),
		"behind a warning, in small records":     slices.Concat(warning, records(message, 3)),
		"behind more of them than are looked at": slices.Concat(bytes.Repeat(empty, 1000), whole),
	}
}

// Who takes such a hello for bytes lets a name pass unseen.
func TestAHelloThatOnlySomeServersTakeIsRefused(t *testing.T) {
	for name, wire := range odd(madeUp(serverName("a.example"), versions13)) {
		if r, need := Parse(wire); need != 0 || r.Kind != policy.ClientHello || r.Err == nil || !r.SNIBad {
			t.Errorf("%s: %+v, need %d", name, r, need)
		}
		for at := 1; at < len(wire) && at < 2*maxSkipped; at++ {
			if r, need := Parse(wire[:at]); r.Kind != policy.ClientHello || need != 0 && int(need) <= at {
				t.Fatalf("%s: after %d bytes %+v, need %d", name, at, r, need)
			}
		}
	}
}

func TestServerNames(t *testing.T) {
	cases := map[string]struct {
		extensions []extension
		name, sni  string
		bad        bool
		err        *HelloError
	}{
		"none":                 {extensions: []extension{versions13}},
		"one":                  {extensions: []extension{serverName("www.example.com")}, name: "www.example.com", sni: "www.example.com"},
		"in capitals":          {extensions: []extension{serverName("WWW.Example.COM")}, name: "www.example.com", sni: "WWW.Example.COM"},
		"with a trailing dot":  {extensions: []extension{serverName("www.example.com.")}, name: "www.example.com", sni: "www.example.com."},
		"two":                  {extensions: []extension{serverName("a.example", "b.example")}, bad: true, err: ErrServerNames},
		"the same one twice":   {extensions: []extension{serverName("a.example", "a.example")}, bad: true, err: ErrServerNames},
		"two extensions":       {extensions: []extension{serverName("a.example"), padding(3), serverName("b.example")}, bad: true, err: ErrDuplicateExtension},
		"empty":                {extensions: []extension{serverName("")}, bad: true, err: ErrServerNames},
		"an empty list":        {extensions: []extension{{0, []byte{0, 0}}}, bad: true, err: ErrServerNames},
		"no list":              {extensions: []extension{{0, nil}}, bad: true, err: ErrHelloLength},
		"another type":         {extensions: []extension{{0, vector16(append([]byte{1}, vector16([]byte("a.example"))...))}}, bad: true, err: ErrServerNames},
		"bytes behind":         {extensions: []extension{{0, append(serverName("a.example").data, 0)}}, bad: true, err: ErrHelloLength},
		"a list too long":      {extensions: []extension{{0, []byte{0, 9, 0, 0, 1, 'a'}}}, bad: true, err: ErrHelloLength},
		"a name too long":      {extensions: []extension{{0, []byte{0, 4, 0, 0, 9, 'a'}}}, bad: true, err: ErrServerNames},
		"an IPv4 address":      {extensions: []extension{serverName("127.0.0.1")}, sni: "127.0.0.1", bad: true},
		"an IPv6 in brackets":  {extensions: []extension{serverName("[::1]")}, sni: "[::1]", bad: true},
		"a mapped address":     {extensions: []extension{serverName("::ffff:169.254.169.254")}, sni: "::ffff:169.254.169.254", bad: true},
		"a number":             {extensions: []extension{serverName("2130706433")}, sni: "2130706433", bad: true},
		"a dot":                {extensions: []extension{serverName(".")}, sni: ".", bad: true},
		"an empty label":       {extensions: []extension{serverName("a..example")}, sni: "a..example", bad: true},
		"a wildcard":           {extensions: []extension{serverName("*.example")}, sni: "*.example", bad: true},
		"bytes beyond ASCII":   {extensions: []extension{serverName("\xff.example")}, sni: "\xff.example", bad: true},
		"a line end":           {extensions: []extension{serverName("a.example\r\nx")}, sni: "a.example\r\nx", bad: true},
		"a name and a type":    {extensions: []extension{{0, vector16(append([]byte{0, 0, 9, 'a', '.', 'e', 'x', 'a', 'm', 'p', 'l', 'e'}, 1, 0, 1, 'x'))}}, bad: true, err: ErrServerNames},
		"a short IPv4 address": {extensions: []extension{serverName("0x7f.1")}, sni: "0x7f.1", bad: true},
		"an IPv6 address":      {extensions: []extension{serverName("::1")}, sni: "::1", bad: true},
		"a NUL":                {extensions: []extension{serverName("good.example\x00.evil.example")}, sni: "good.example\x00.evil.example", bad: true},
		"a space":              {extensions: []extension{serverName("a example")}, sni: "a example", bad: true},
		"a port":               {extensions: []extension{serverName("a.example:443")}, sni: "a.example:443", bad: true},
		"300 bytes":            {extensions: []extension{serverName(strings.Repeat("a.", 149) + "bc")}, sni: strings.Repeat("a.", 127) + "a", bad: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r, need := Parse(one(madeUp(c.extensions...)))
			if need != 0 || r.Kind != policy.ClientHello {
				t.Fatalf("Parse = %+v, need %d", r, need)
			}
			if r.Err != c.err || r.Name.String() != c.name || r.SNI != c.sni || r.SNIBad != c.bad {
				t.Errorf("name %q, SNI %q, bad %v, error %v; want %q, %q, %v, %v", r.Name, r.SNI, r.SNIBad, r.Err, c.name, c.sni, c.bad, c.err)
			}
		})
	}
}

func TestEncryptedClientHelloIsSeen(t *testing.T) {
	for _, kind := range []uint16{extensionECH, extensionESNI} {
		r, _ := Parse(one(madeUp(serverName("a.example"), extension{kind, make([]byte, 200)})))
		if !r.ECH || r.Err != nil || r.Name.String() != "a.example" {
			t.Errorf("extension %x: %+v", kind, r)
		}
	}
}

func TestWhatNoServerCanTakeForAHelloIsBytes(t *testing.T) {
	good := madeUp(serverName("a.example"), versions13)
	mongo := append([]byte{0x16, 3, 0, 0, 7, 1, 0, 0, 0, 0, 0, 0, 0xdd, 7, 0, 0}, make([]byte, 790-16)...)
	late := slices.Clone(mongo)
	copy(late[4:], []byte{7, 1, 0x31, 0x7a}) // a request id that looks like a longer hello: its next record is none
	for name, c := range map[string]struct {
		wire []byte
		err  *HelloError
	}{
		"a MongoDB message of 790 bytes":        {mongo, ErrHelloLength},
		"another one":                           {late, ErrHelloRecord},
		"behind an empty record":                {append([]byte{0x16, 3, 1, 0, 0}, mongo...), ErrHelloLength},
		"of another version":                    {append([]byte{0x16, 4}, mongo[2:]...), ErrHelloLength},
		"cut inside its random":                 {one(message(good[messageHeaderLen : messageHeaderLen+20])), ErrHelloLength},
		"no cipher suites":                      {one(message(append(append([]byte{3, 3}, make([]byte, 33)...), 0, 0, 1, 0))), ErrHelloLength},
		"16 MiB":                                {[]byte{0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff}, ErrHelloTooLong},
		"a session id that is longer than all":  {one(message(append(append(append([]byte{3, 3}, make([]byte, 32)...), 33), make([]byte, 30)...))), ErrHelloLength},
		"cipher suites that are longer":         {one(message(append(append([]byte{3, 3}, make([]byte, 33)...), 1, 0, 0x13, 1, 1, 0))), ErrHelloLength},
		"an empty hello before a good one":      {one(append([]byte{1, 0, 0, 0}, good...)), ErrHelloLength},
		"no record behind its first":            {append(records(good, 20)[:25], "text"...), ErrHelloRecord},
		"nor behind a record that is too short": {append(records(good, 3)[:8], 0), ErrHelloRecord},
	} {
		r, need := Parse(c.wire)
		if need != 0 || r.Kind != policy.Opaque || r.Err != c.err || r.SNIBad {
			t.Errorf("%s: %+v (%v), need %d, want %v", name, r, r.Err, need, c.err)
		}
	}
}

func TestMalformedHellosAreRefused(t *testing.T) {
	good := madeUp(serverName("a.example"), versions13)
	cut := func(n int) []byte { return message(good[messageHeaderLen : len(good)-n]) }
	many := make([]extension, maxExtensions+1)
	for i := range many {
		many[i].kind = uint16(1000 + i)
	}
	cases := map[string]struct {
		wire []byte
		err  *HelloError
	}{
		"cut by a byte":                 {one(cut(1)), ErrHelloLength},
		"a byte too long":               {one(message(append(slices.Clone(good[messageHeaderLen:]), 0))), ErrHelloLength},
		"a session id of 33 bytes":      {one(message(append(append(append([]byte{3, 3}, make([]byte, 32)...), 33), append(make([]byte, 33), 0, 2, 0x13, 1, 1, 0)...))), ErrHelloLength},
		"half a cipher suite":           {one(message(append(append([]byte{3, 3}, make([]byte, 33)...), 0, 3, 0, 0, 0, 1, 0))), ErrHelloLength},
		"no compression method":         {one(message(append(append([]byte{3, 3}, make([]byte, 33)...), 0, 2, 0x13, 1, 0))), ErrHelloLength},
		"SSL 3":                         {one(message(append(append([]byte{3, 0}, make([]byte, 33)...), 0, 2, 0x13, 1, 1, 0))), ErrOldHello},
		"only SSL 3 in its versions":    {one(madeUp(extension{extensionSupportedVersions, vector8([]byte{3, 0})})), ErrOldHello},
		"no version":                    {one(madeUp(extension{extensionSupportedVersions, vector8(nil)})), ErrHelloLength},
		"half a version":                {one(madeUp(extension{extensionSupportedVersions, vector8([]byte{3})})), ErrHelloLength},
		"an unknown extension twice":    {one(madeUp(extension{4711, nil}, extension{4711, nil})), ErrDuplicateExtension},
		"too many extensions":           {one(madeUp(many...)), ErrTooManyExtensions},
		"an empty protocol":             {one(madeUp(extension{extensionALPN, vector16([]byte{0})})), ErrHelloLength},
		"no protocol":                   {one(madeUp(extension{extensionALPN, vector16(nil)})), ErrHelloLength},
		"too many protocols":            {one(madeUp(extension{extensionALPN, vector16(bytes.Repeat([]byte{1, 'a'}, maxListEntries+1))})), ErrTooManyExtensions},
		"too many groups":               {one(madeUp(extension{extensionSupportedGroups, vector16(make([]byte, 2*maxListEntries+2))})), ErrTooManyExtensions},
		"half a group":                  {one(madeUp(extension{extensionSupportedGroups, vector16([]byte{0, 29, 0})})), ErrHelloLength},
		"no group":                      {one(madeUp(extension{extensionSupportedGroups, vector16(nil)})), ErrHelloLength},
		"something behind the PSK":      {one(madeUp(extension{extensionPreSharedKey, nil}, serverName("a.example"))), ErrHelloLength},
		"another message behind":        {one(append(slices.Clone(good), 1, 0, 0, 0)), ErrHelloTrailing},
		"an alert inside":               {append(records(good, 20)[:25], 0x15, 3, 1, 0, 2, 1, 0), ErrHelloRecord},
		"an empty record inside":        {append(records(good, 20)[:25], 0x16, 3, 1, 0, 0), ErrHelloRecord},
		"a record of another version":   {append(records(good, 20)[:25], 0x16, 2, 1, 0, 1, 0), ErrHelloRecord},
		"a record too long inside":      {append(records(good, 20)[:25], 0x16, 3, 1, 0x40, 1, 0), ErrHelloRecord},
		"8 MiB":                         {[]byte{0x16, 3, 1, 0, 4, 1, 0x7f, 0xff, 0xff, 0x16}, ErrHelloTooLong},
		"in a record that is too long":  {[]byte{0x16, 3, 1, 0x40, 1, 1, 0, 0x40, 0}, ErrHelloRecord},
		"an alert amid, of any version": {append(records(good, 20)[:25], 0x15, 3, 1, 0, 2, 1, 90), ErrHelloRecord},
		"a byte beyond the bound":       {records(make16(MaxHello-4*recordHeaderLen+1), maxRecord), ErrHelloTooLong},
		"64 KiB in small records":       {records(make16(20<<10), 1), ErrHelloTooLong},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r, need := Parse(c.wire)
			if need != 0 || r.Kind != policy.ClientHello || r.Err != c.err || !r.SNIBad || !r.Name.IsZero() {
				t.Errorf("Parse = %+v (%v), need %d, want %v", r, r.Err, need, c.err)
			}
		})
	}
}

// make16 is a hello message of exactly n bytes.
func make16(n int) []byte {
	empty := len(madeUp(serverName("a.example"), padding(0)))
	// One extension holds at most 64 KiB less one byte, which is enough.
	return madeUp(serverName("a.example"), padding(n-empty))
}

func TestAHelloOfTheGreatestLengthPasses(t *testing.T) {
	wire := records(make16(MaxHello-4*recordHeaderLen), maxRecord)
	if len(wire) != MaxHello {
		t.Fatalf("the test's hello has %d bytes", len(wire))
	}
	if r, need := Parse(wire); need != 0 || r.Err != nil || r.Name.String() != "a.example" {
		t.Errorf("Parse = %+v, need %d", r, need)
	}
}

func TestOldHellosAreRefusedByName(t *testing.T) {
	ssl2 := append([]byte{0x80, 9 + 3 + 16, 1, 3, 1, 0, 3, 0, 0, 0, 16, 0, 0, 5}, make([]byte, 16)...)
	for at := range ssl2[:11] {
		if r, need := Parse(ssl2[:at]); need == 0 || r.Err != nil {
			t.Errorf("after %d bytes: %+v, need %d", at, r, need)
		}
	}
	for name, wire := range map[string][]byte{
		"SSL 2's form of TLS 1.0": ssl2,
		"SSL 2":                   append([]byte{0x80, 9 + 3 + 16, 1, 0, 2}, ssl2[5:]...),
	} {
		if r, need := Parse(wire); need != 0 || r.Err != ErrOldHello || r.Kind != policy.ClientHello {
			t.Errorf("%s: %+v, need %d", name, r, need)
		}
	}
}

func TestBinaryThatOnlyBeginsLikeTLSIsOpaque(t *testing.T) {
	for name, wire := range map[string][]byte{
		"MongoDB, 278 bytes":             {0x16, 0x01, 0, 0, 7, 0, 0, 0},
		"MongoDB, 790 bytes":             {0x16, 0x03, 0, 0, 7, 0, 0, 0},
		"a record too long":              {0x16, 0x03, 1, 0x40, 1, 2},
		"another handshake message":      {0x16, 0x03, 1, 0, 4, 2},
		"a fatal alert":                  {0x15, 0x03, 1, 0, 2, 2, 0},
		"a warning, then something else": {0x15, 0x03, 1, 0, 2, 1, 0, 1},
		"an empty record, then another":  {0x16, 0x03, 1, 0, 0, 0},
		"MySQL, 21 bytes":                {0x15, 0, 0, 1, 0x85, 0xa6},
		"a TLS record of data":           {0x17, 0x03, 3, 0, 2, 1, 0},
		"high bit, not SSL 2":            {0x80, 0, 2},
		"high bit, version 4":            {0x80, 40, 1, 4, 0},
		"high bit, lengths do not match": {0x80, 99, 1, 3, 1, 0, 3, 0, 0, 0, 16},
		"zero":                           {0, 0, 0, 1},
		"UTF-8":                          []byte("Ära"),
		"a bracket":                      []byte("{\"jsonrpc\":2}"),
	} {
		if r, need := Parse(wire); need != 0 || r.Kind != policy.Opaque || r.Err != nil {
			t.Errorf("%s: %+v, need %d", name, r, need)
		}
	}
}

// FuzzClientHello holds Parse against crypto/tls: a hello that both read has one
// server name, and what a server would read is never still waited for.
// offersNothing reports whether the hello in these records lists no cipher suite or no
// compression method (RFC 8446, section 4.1.2: one of each at the least).
func offersNothing(wire []byte) bool {
	var message cursor
	for records := (cursor{rest: wire}); len(records.rest) > 0 && !records.bad; {
		records.take(3)
		message.rest = append(message.rest, records.list16()...)
	}
	message.take(4 + 2 + 32) // type, length, version, random
	message.list8()          // the session's identifier
	suites := message.list16()
	return len(suites) == 0 || len(message.list8()) == 0
}

func FuzzClientHello(f *testing.F) {
	golang := helloOf(f, &tls.Config{ServerName: "www.googleapis.com", NextProtos: []string{"h2", "http/1.1"}})
	for _, wire := range [][]byte{
		golang,
		helloOf(f, &tls.Config{ServerName: "a.example", MaxVersion: tls.VersionTLS12}),
		records(golang[recordHeaderLen:], 1),
		records(golang[recordHeaderLen:], 100),
		one(madeUp(padding(1500), serverName("a.example"), versions13)),
		one(madeUp(padding(17<<10), serverName("a.example"))),
		one(madeUp(serverName("a.example"), extension{extensionECH, []byte{0, 0, 1, 0, 1, 7, 0, 0, 0, 0}}, versions13)),
		one(madeUp(serverName("a.example", "b.example"))),
		one(madeUp(serverName("a.example"), serverName("b.example"))),
		one(madeUp(serverName(""))),
		one(madeUp(serverName("127.0.0.1"))),
		one(madeUp(serverName("a.example\x00.b.example"))),
		one(madeUp(serverName("a.example."))),
		one(madeUp(extension{0, append(vector16([]byte{1, 0, 1, 'x', 0, 0, 1, 'y'}), []byte{}...)})),
		one(madeUp()),
		append([]byte{0x15, 3, 1, 0, 2, 1, 0}, golang...),
		append([]byte{0x80, 28, 1, 3, 1, 0, 3, 0, 0, 0, 16, 0, 0, 5}, make([]byte, 16)...),
	} {
		f.Add(wire)
	}
	for _, wire := range odd(golang[recordHeaderLen:]) {
		f.Add(wire)
	}
	f.Add(append([]byte{0x16, 3, 0, 0, 7, 1, 0, 0, 0, 0, 0, 0, 0xdd, 7, 0, 0}, make([]byte, 790-16)...)) // MongoDB
	for _, command := range [][]string{
		{"curl", "-s", "--noproxy", "*", "--max-time", "5", "--resolve", "www.google.com:PORT:127.0.0.1", "https://www.google.com:PORT/"},
		{"openssl", "s_client", "-connect", "127.0.0.1:PORT", "-servername", "a.example", "-alpn", "h2,http/1.1"},
	} {
		if wire := helloOfCommand(f, command); wire != nil {
			f.Add(wire)
			f.Add(records(wire[recordHeaderLen:], 1))
		}
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		got, need := Parse(wire)
		if need != 0 && (int(need) <= len(wire) || int(need) > MaxHello) {
			t.Fatalf("with %d bytes it needs %d", len(wire), need)
		}
		if got.Err != nil && (got.SNIBad != (got.Kind == policy.ClientHello) || got.HelloBytes != 0) {
			t.Fatalf("a refused hello says %+v", got)
		}
		if len(wire) > 0 { // what was bytes once never becomes a hello
			if part, partNeed := Parse(wire[:1+int(wire[len(wire)-1])%len(wire)]); partNeed == 0 && part.Kind == policy.Opaque && got.Kind == policy.ClientHello {
				t.Fatalf("a part is %+v, the whole %+v", part, got)
			}
		}
		server, err := asServerSees(wire)
		if err != nil {
			return
		}
		switch {
		case got.Err != nil && got.Kind == policy.ClientHello: // stricter than Go
		case need != 0:
			t.Fatalf("a server has read the hello in %d bytes, Parse needs %d", len(wire), need)
		case got.Kind != policy.ClientHello && offersNothing(wire):
			// Go reads it, asks for its configuration and then refuses it, as each server
			// must: it offers no cipher suite, or no way to compress, not even none.
		case got.Kind != policy.ClientHello:
			t.Fatalf("a server sees a hello for %q, Parse %+v", server.ServerName, got)
		case got.SNI != server.ServerName && len(server.ServerName) <= MaxSNIText:
			t.Fatalf("a server sees the name %q, Parse %q", server.ServerName, got.SNI)
		case len(server.ServerName) > MaxSNIText && !got.SNIBad:
			t.Fatalf("a name of %d bytes is not bad", len(server.ServerName))
		case !slices.Equal(got.ALPN, server.SupportedProtos):
			t.Fatalf("a server sees the protocols %q, Parse %q", server.SupportedProtos, got.ALPN)
		case len(got.Groups) != len(server.SupportedCurves):
			t.Fatalf("a server sees the groups %v, Parse %v", server.SupportedCurves, got.Groups)
		}
	})
}

func BenchmarkParseHello(b *testing.B) {
	wire := helloOf(b, &tls.Config{ServerName: "www.googleapis.com", NextProtos: []string{"h2", "http/1.1"}})
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	for b.Loop() {
		if r, need := Parse(wire); need != 0 || r.Name.IsZero() {
			b.Fatal(r.Err)
		}
	}
}

func TestParsingAHelloAllocatesLittle(t *testing.T) {
	wire := helloOf(t, &tls.Config{ServerName: "www.googleapis.com", NextProtos: []string{"h2", "http/1.1"}})
	// The name as it was sent, the list of protocols, the list of groups.
	if n := testing.AllocsPerRun(100, func() { Parse(wire) }); n > 3 {
		t.Errorf("Parse allocates %v times", n)
	}
}
