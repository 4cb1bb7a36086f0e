package names

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/idna"
	"pgregory.net/rapid"
)

func TestParseGivesOneCanonicalForm(t *testing.T) {
	for spelling, want := range map[string]string{
		"www.example.com":       "www.example.com",
		"WWW.Example.COM":       "www.example.com",
		"www.example.com.":      "www.example.com",
		"bücher.example":        "xn--bcher-kva.example",
		"BÜCHER.example.":       "xn--bcher-kva.example",
		"XN--BCHER-KVA.example": "xn--bcher-kva.example",
		"ｗｗｗ．ｅｘａｍｐｌｅ．ｃｏｍ":                "www.example.com",
		"www。example。com。":               "www.example.com",
		"faß.de":                         "xn--fa-hia.de",
		"_dmarc.example.com":             "_dmarc.example.com",
		"my_bucket.s3.example.com":       "my_bucket.s3.example.com",
		"r3---sn-abc.googlevideo.com":    "r3---sn-abc.googlevideo.com",
		"blog-.tumblr.example":           "blog-.tumblr.example",
		"details":                        "details",
		"1.example":                      "1.example",
		"10.0.0.1.nip.io":                "10.0.0.1.nip.io",
		"0x7f.example":                   "0x7f.example",
		"example.0xg":                    "example.0xg",
		strings.Repeat("a", 63) + ".com": strings.Repeat("a", 63) + ".com",
		name(253):                        name(253),
		name(253) + ".":                  name(253),
	} {
		got, err := Parse(spelling)
		if err != nil || got.String() != want {
			t.Errorf("Parse(%q) = %q, %v; want %q", spelling, got, err, want)
		}
	}
}

// name returns a valid name of n bytes.
func name(n int) string {
	s := strings.Repeat("abcdefghi.", n/10+1)[:n]
	return strings.TrimSuffix(s, ".") + strings.Repeat("x", len(s)-len(strings.TrimSuffix(s, ".")))
}

func TestParseRefuses(t *testing.T) {
	for spelling, want := range map[string]error{
		"":                             ErrEmpty,
		".":                            ErrEmpty,
		"..":                           ErrLabel,
		"a..b":                         ErrLabel,
		".a":                           ErrLabel,
		"a..":                          ErrLabel,
		"-a.example":                   ErrLabel,
		"a.-b":                         ErrLabel,
		strings.Repeat("a", 64):        ErrLabel,
		name(254):                      ErrTooLong,
		strings.Repeat("é", 1000):      ErrTooLong,
		strings.Repeat("é.", 200):      ErrTooLong,
		"www%2eexample.com":            ErrPercent,
		"%77ww.example.com":            ErrPercent,
		"www％2eexample.com":            ErrByte,
		"www.example.com:443":          ErrByte,
		"user@www.example.com":         ErrByte,
		"www.example.com/":             ErrByte,
		"www.example.com\x00.evil.com": ErrByte,
		"www.example.com ":             ErrByte,
		"www example.com":              ErrByte,
		"*.example.com":                ErrByte,
		"a\\b.example":                 ErrByte,
		"℀.example":                    ErrByte, // maps to a/c
		"\xff.example":                 ErrIDNA,
		"xn--a.example":                ErrIDNA, // decodes to something that is not encoded so
		"xn--example-.com":             ErrIDNA, // decodes to ASCII
		"xn--.com":                     ErrLabel,
		"xn--bcher-kva\u00e9.com":      ErrIDNA,
		"foo.123":                      ErrNumeric,
		"1.2.3.4.5":                    ErrNumeric,
		"256.1.1.1":                    ErrNumeric,
		"1.2.3.256":                    ErrNumeric,
		"4294967296":                   ErrNumeric,
		"08":                           ErrNumeric,
		"example.0x":                   ErrNumeric,
	} {
		got, err := Parse(spelling)
		if !errors.Is(err, want) || !got.IsZero() {
			t.Errorf("Parse(%q) = %q, %v; want %v", spelling, got, err, want)
		}
	}
}

// addresses are spellings that inet_aton, a browser or both take as an address.
var addresses = map[string]string{
	"127.0.0.1":            "127.0.0.1",
	"127.0.0.1.":           "127.0.0.1",
	"127.1":                "127.0.0.1",
	"127.0.1":              "127.0.0.1",
	"0x7f.1":               "127.0.0.1",
	"0X7F.1":               "127.0.0.1",
	"0x7f.0x0.0x0.0x1":     "127.0.0.1",
	"0177.1":               "127.0.0.1",
	"017700000001":         "127.0.0.1",
	"2130706433":           "127.0.0.1",
	"0x7f000001":           "127.0.0.1",
	"0x7f000001.":          "127.0.0.1",
	"0":                    "0.0.0.0",
	"0x":                   "0.0.0.0",
	"00000000000000000000": "0.0.0.0",
	"169.254.169.254":      "169.254.169.254",
	"169.254.43518":        "169.254.169.254",
	"1.2.3.4":              "1.2.3.4",
	"１２７.１":                "127.0.0.1",
	"127。0。0。1":            "127.0.0.1",
	"①②⑦.1":                "127.0.0.1",
	"4294967295":           "255.255.255.255",
	"::1":                  "::1",
	"[::1]":                "::1",
	"[0:0:0:0:0:0:0:1]":    "::1",
	"[FE80::1%eth0]":       "fe80::1",
	"[fe80::1%25eth0]":     "fe80::1", // RFC 6874: "%25" spells the zone's "%" in URIs
	"fe80::1%1":            "fe80::1",
	"[fe80::1%25]":         "fe80::1", // the zone "25"
	"[fe80::1%br-1.2_x~]":  "fe80::1",
	"0x7F.0.0.01":          "127.0.0.1",
	"0x0000007f.1":         "127.0.0.1",
	"127.0x1":              "127.0.0.1",
	"127.0.01":             "127.0.0.1",
	"127.0.65535":          "127.0.255.255",
	"0xa9fea9fe":           "169.254.169.254",
	"0251.0376.0251.0376":  "169.254.169.254",
	"2852039166":           "169.254.169.254",
	"169。254｡169．254":      "169.254.169.254",
	"[::ffff:a9fe:a9fe]":   "169.254.169.254",
	"[0000:0000:0000:0000:0000:ffff:7f00:0001]": "127.0.0.1",
	"[::ffff:127.0.0.1]":                        "127.0.0.1",
	"::ffff:7f00:1":                             "127.0.0.1",
	"[::FFFF:169.254.169.254]":                  "169.254.169.254",
	"[2001:db8::1]":                             "2001:db8::1",
}

func TestParseRefusesAddressesInEverySpelling(t *testing.T) {
	for spelling, canonical := range addresses {
		if got, err := Parse(spelling); !errors.Is(err, ErrAddress) {
			t.Errorf("Parse(%q) = %q, %v; want %v for %s", spelling, got, err, ErrAddress, canonical)
		}
	}
}

func TestParseHostReadsAddressesInEverySpelling(t *testing.T) {
	for spelling, canonical := range addresses {
		got, err := ParseHost(spelling)
		if want := netip.MustParseAddr(canonical); err != nil || got != (Host{Addr: want}) {
			t.Errorf("ParseHost(%q) = %v, %v; want %v", spelling, got, err, want)
		}
	}
}

func TestParseHostReadsPorts(t *testing.T) {
	for spelling, want := range map[string]Host{
		"www.example.com":      {Name: MustParse("www.example.com")},
		"WWW.example.com.:443": {Name: MustParse("www.example.com"), Port: 443},
		"127.1:80":             {Addr: netip.MustParseAddr("127.0.0.1"), Port: 80},
		"[::1]:8443":           {Addr: netip.MustParseAddr("::1"), Port: 8443},
		"details:65535":        {Name: MustParse("details"), Port: 65535},
		"::1:80":               {Addr: netip.MustParseAddr("::1:80")},
	} {
		got, err := ParseHost(spelling)
		if err != nil || got != want {
			t.Errorf("ParseHost(%q) = %v, %v; want %v", spelling, got, err, want)
		}
		again, err := ParseHost(got.String())
		if err != nil || again != got {
			t.Errorf("ParseHost(%q) = %v, %v; want %v", got.String(), again, err, got)
		}
	}
	for spelling, want := range map[string]error{
		"":                    ErrEmpty,
		":443":                ErrEmpty,
		"www.example.com:":    ErrPort,
		"www.example.com:0":   ErrPort,
		"a.example:00443":     ErrPort,
		"a.example:65536":     ErrPort,
		"a.example:+443":      ErrPort,
		"a.example:4x":        ErrPort,
		"a.example:443:443":   ErrBrackets,
		"u@a.example:443":     ErrByte,
		"u:p@a.example":       ErrPort,
		"[::1":                ErrBrackets,
		"[::1]x":              ErrBrackets,
		"[::1]:":              ErrPort,
		"[127.0.0.1]":         ErrBrackets,
		"[v1.x]":              ErrBrackets,
		"[]":                  ErrBrackets,
		"[fe80::1%]":          ErrBrackets,
		"a]b":                 ErrByte,
		"a.example, b":        ErrByte,
		"a.example\r\nx: y":   ErrPort,
		"%31%32%37.1":         ErrPercent,
		"http://a.example":    ErrPort,
		"1.2.3.4.5:80":        ErrNumeric,
		name(1200):            ErrTooLong,
		"[::ffff:0x7f.1]":     ErrBrackets,
		"[::1%a%b]":           ErrBrackets,
		"[::1%@b.example]":    ErrBrackets,
		"[::1%a:80]":          ErrBrackets,
		"::1%lo:80":           ErrBrackets, // a port of it, or of its zone?
		"[::1%\x01]":          ErrBrackets,
		"[::1%é]":             ErrBrackets,
		"a.example:1e3":       ErrPort,
		"a.example:-1":        ErrPort,
		"a.example: 80":       ErrPort,
		"a.example:99999":     ErrPort,
		"a.example:100443":    ErrPort,
		"a.example:٨٠":        ErrPort,
		"127.0.0.1:65536":     ErrPort,
		"[::1]:0":             ErrPort,
		"[::1]443":            ErrBrackets,
		"[::1].":              ErrBrackets,
		"]::1[":               ErrBrackets,
		"[[::1]]":             ErrBrackets,
		"xn--a.example:443":   ErrIDNA,
		"..:443":              ErrLabel,
		"a.example%00:443":    ErrPercent,
		"a.example\x00:443":   ErrByte,
		"www.example.com:４４３": ErrPort,
	} {
		got, err := ParseHost(spelling)
		if !errors.Is(err, want) || got != (Host{}) {
			t.Errorf("ParseHost(%q) = %v, %v; want %v", spelling, got, err, want)
		}
	}
}

func TestNameIsWithinASuffixByLabels(t *testing.T) {
	n := MustParse("www.default.svc.cluster.local")
	for suffix, want := range map[string]bool{
		"svc.cluster.local":                       true,
		"www.default.svc.cluster.local":           true,
		"luster.local":                            false,
		"x.www.default.svc.cluster.local.example": false,
		"a.www.default.svc.cluster.local":         false,
	} {
		if got := n.Within(MustParse(suffix)); got != want {
			t.Errorf("Within(%s) = %t, want %t", suffix, got, want)
		}
	}
	if n.Within(Name{}) || (Name{}).Within(n) || (Name{}).Within(Name{}) {
		t.Error("the zero Name holds or is held")
	}
}

func TestNameTextRoundTrip(t *testing.T) {
	var n Name
	if err := n.UnmarshalText([]byte("WWW.Example.com.")); err != nil || n.String() != "www.example.com" {
		t.Errorf("got %q, %v", n, err)
	}
	if err := n.UnmarshalText([]byte("127.1")); !errors.Is(err, ErrAddress) {
		t.Errorf("an address was read as a name: %v", err)
	}
	if err := n.UnmarshalText(nil); err != nil || !n.IsZero() {
		t.Errorf("empty text gave %q, %v", n, err)
	}
}

func TestErrorsCutWhatAStrangerSent(t *testing.T) {
	_, err := Parse(strings.Repeat("a", 5000))
	if err == nil || len(err.Error()) > 200 {
		t.Errorf("error of %d bytes", len(err.Error()))
	}
}

func TestParseOfACanonicalNameDoesNotAllocate(t *testing.T) {
	for _, s := range []string{"www.googleapis.com", "r3---sn-abc.googlevideo.com", "www.googleapis.com."} {
		if n := testing.AllocsPerRun(100, func() { _, _ = Parse(s) }); n != 0 {
			t.Errorf("Parse(%q): %v allocations", s, n)
		}
	}
	var last LastHost
	spelling := []byte("WWW.Googleapis.com:443")
	if n := testing.AllocsPerRun(100, func() { _, _ = last.Parse(spelling) }); n != 0 {
		t.Errorf("LastHost: %v allocations", n)
	}
}

func TestLastHostReadsEverySpelling(t *testing.T) {
	var last LastHost
	for _, spelling := range []string{"a.example", "A.example", "b.example:80", "", "b.example:80", "127.1", "bad host"} {
		want, wantErr := ParseHost(spelling)
		got, err := last.Parse([]byte(spelling))
		if got != want || (err == nil) != (wantErr == nil) {
			t.Errorf("%q: %v, %v; want %v, %v", spelling, got, err, want, wantErr)
		}
	}
}

// spellings draws strings near host names.
func spellings() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringMatching(`[a-zA-Z0-9_-]{1,8}(\.[a-zA-Z0-9_-]{1,8}){0,4}\.?(:[0-9]{1,5})?`),
		rapid.StringMatching(`(0x|0)?[0-9a-f]{1,4}(\.(0x|0)?[0-9a-f]{1,3}){0,4}\.?`),
		rapid.StringMatching(`(xn--|[éßüｗ。１])[a-z0-9-é]{0,6}\.com`),
		rapid.String(),
	)
}

func TestParseIsIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		checkParse(t, spellings().Draw(t, "spelling"))
	})
}

func checkParse(t interface{ Fatalf(string, ...any) }, s string) {
	n, err := Parse(s)
	if err != nil {
		if !n.IsZero() {
			t.Fatalf("Parse(%q) = %q with %v", s, n, err)
		}
		return
	}
	text := n.String()
	if len(text) == 0 || len(text) > MaxName || strings.ToLower(text) != text || strings.HasSuffix(text, ".") {
		t.Fatalf("Parse(%q) = %q is not canonical", s, text)
	}
	for _, spelling := range []string{text, text + ".", strings.ToUpper(text)} {
		if again, err := Parse(spelling); err != nil || again != n {
			t.Fatalf("Parse(%q) = %q, but Parse(%q) = %q, %v", s, n, spelling, again, err)
		}
	}
	if _, err := netip.ParseAddr(text); err == nil {
		t.Fatalf("Parse(%q) = %q is an address", s, text)
	}
	if host, err := ParseHost(text); err != nil || host != (Host{Name: n}) {
		t.Fatalf("ParseHost(%q) = %v, %v", text, host, err)
	}
	// Where the library's profile for lookups takes it too, both say the same;
	// and it takes all that has neither underscores nor hyphens of its dislike.
	ascii, err := idna.Lookup.ToASCII(s)
	if err == nil && strings.TrimSuffix(ascii, ".") != text {
		t.Fatalf("Parse(%q) = %q, but to idna it is %q", s, text, ascii)
	}
	if again, err := idna.Lookup.ToASCII(text); !strings.ContainsAny(text, "_-") && (err != nil || again != text) {
		t.Fatalf("Parse(%q) = %q, but to idna that is %q, %v", s, text, again, err)
	}
}

func checkParseHost(t interface{ Fatalf(string, ...any) }, s string) {
	host, err := ParseHost(s)
	if err != nil {
		if host != (Host{}) {
			t.Fatalf("ParseHost(%q) = %v with %v", s, host, err)
		}
		return
	}
	if host.IsZero() || host.Name.IsZero() == !host.Addr.IsValid() {
		t.Fatalf("ParseHost(%q) = %#v holds none or both", s, host)
	}
	if host.Addr.Zone() != "" || host.Addr.Is4In6() {
		t.Fatalf("ParseHost(%q) = %v is not canonical", s, host.Addr)
	}
	if again, err := ParseHost(host.String()); err != nil || again != host {
		t.Fatalf("ParseHost(%q) = %v, but ParseHost(%q) = %v, %v", s, host, host.String(), again, err)
	}
	// What net/netip reads as an address is that very address.
	if addr, err := netip.ParseAddr(s); err == nil && host.Addr != addr.Unmap().WithZone("") {
		t.Fatalf("ParseHost(%q) = %v, but to netip it is %v", s, host, addr)
	}
	if both, err := netip.ParseAddrPort(s); err == nil && (host.Addr != both.Addr().Unmap().WithZone("") || host.Port != both.Port()) {
		t.Fatalf("ParseHost(%q) = %v, but to netip it is %v", s, host, both)
	}
}

func FuzzParse(f *testing.F) {
	for s := range addresses {
		f.Add(s)
	}
	for _, s := range []string{"www.example.com", "WWW.EXAMPLE.com.", "cnn..com", "cnn.com:80", "bücher.de", "xn--bcher-kva.de",
		"a.b.c.", "%2e", "*.cnn.com", "℀.example", "xn--a", "0x", "1.0x", "a_b-.c", "\u200dx", "x\u200c", "א1.com", "Ⅷ.com", "ẞ", "。", "xn--ls8h.la"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { checkParse(t, s) })
}

func FuzzParseHost(f *testing.F) {
	for s := range addresses {
		f.Add(s)
		f.Add(s + ":443")
	}
	// Host against SNI, and the ways in which an authority was misread elsewhere.
	for _, s := range []string{"www.googleapis.com:443", "www.googleapis.com:443:80", "a@b", "[::1%25lo]:80", "a.b:00080",
		"a.b:", "evil.example\\@www.googleapis.com", "www.googleapis.com#.evil.example", "[::ffff:a9fe:a9fe]:80", "cnn.com:80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { checkParseHost(t, s) })
}

func TestTheBeginningsOfANameAreNamesOfTwoLabelsOrMore(t *testing.T) {
	for name, want := range map[string]string{
		"www.example.com.corp.example.org": "[www.example.com.corp.example www.example.com.corp www.example.com www.example]",
		"www.example.com":                  "[www.example]",
		"example.com":                      "[]",
		"com":                              "[]",
		"127.0.0.1.example.org":            "[127.0.0.1.example]",
		"a.b.10.corp":                      "[a.b]",
	} {
		var got []string
		for n := range MustParse(name).Beginnings {
			if again, err := Parse(n.String()); err != nil || again != n {
				t.Errorf("%s: %q is not a name: %v", name, n, err)
			}
			got = append(got, n.String())
		}
		if text := fmt.Sprint(got); text != want {
			t.Errorf("%s begins with %s, want %s", name, text, want)
		}
		for range MustParse(name).Beginnings {
			break
		}
	}
}
