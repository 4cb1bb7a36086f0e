package names

import (
	"errors"
	"strings"
	"testing"
)

// Names that look like another one, or that two programs read differently. Each is
// refused, or has one form of its own: never the form of the name that it apes.
func TestNamesThatApeOthersAreRefusedOrStayThemselves(t *testing.T) {
	for _, c := range []struct {
		say, spelling string
		want          string // "" is a refusal
		why           error
	}{
		{"sharp s is a letter of its own, not ss", "faß.de", "xn--fa-hia.de", nil},
		{"ss stays ss", "FASS.de", "fass.de", nil},
		{"final sigma is a letter of its own", "σίσυφος.gr", "xn--kxa6ajbbmh.gr", nil},
		{"capital sigma is the inner one", "ΣΊΣΥΦΟΣ.gr", "xn--kxa6akbbkh.gr", nil},
		{"a Cyrillic a", "аpple.com", "xn--pple-43d.com", nil},
		{"a word all in Cyrillic", "аррӏе.com", "xn--80ak6aa92e.com", nil},
		{"a dotless i", "ıstanbul.com", "xn--stanbul-qfb.com", nil},
		{"a capital I with a dot is i and the dot", "İstanbul.com", "xn--istanbul-o0e.com", nil},
		{"the Kelvin sign is k", "\u212aernel.org", "kernel.org", nil},
		{"the long s is s", "ſluice.dev", "sluice.dev", nil},
		{"letters in circles are letters", "ⓖⓞⓞⓖⓛⓔ.com", "google.com", nil},
		{"fullwidth letters are letters", "ｇｏｏｇｌｅ．ｃｏｍ", "google.com", nil},
		{"each of the four dots is one", "www.a。b．c｡com", "www.a.b.c.com", nil},
		{"a soft hyphen is nothing", "goo\u00adgle.com", "google.com", nil},
		{"a word joiner is nothing", "goo\u2060gle.com", "google.com", nil},
		{"a byte order mark is nothing", "\ufeffgoogle.com", "google.com", nil},
		{"composed and decomposed are one", "bu\u0308cher.example", "xn--bcher-kva.example", nil},
		{"a joiner where its script has it", "क्\u200dष.com", "xn--11b2ezcw70k.com", nil},
		{"a joiner in Latin", "goo\u200dgle.com", "", ErrIDNA},
		{"a non-joiner in Latin", "goo\u200cgle.com", "", ErrIDNA},
		{"a one dot leader", "google\u2024com", "", ErrIDNA},
		{"an ideographic dot after a dot", "google.。com", "", ErrLabel},
		{"a change of direction", "goo\u202egle.com", "", ErrIDNA},
		{"Hebrew and Latin in a label", "אa.com", "", ErrIDNA},
		{"a combining mark at the start", "\u0300a.com", "", ErrIDNA},
		{"Arabic digits", "127.0.0.١", "", ErrIDNA},
		{"fullwidth digits", "１２７．１", "", ErrAddress},
		{"a fullwidth slash", "google.com／.evil.example", "", ErrByte},
		{"a fullwidth at", "google.com＠evil.example", "", ErrByte},
		{"a fullwidth colon", "google.com：80", "", ErrByte},
		{"a fullwidth percent", "google％2ecom", "", ErrByte},
		{"a fullwidth question mark", "google.com？.evil.example", "", ErrByte},
		{"account of", "℀.com", "", ErrByte},
		{"a no-break space", "google.com\u00a0", "", ErrByte},
		{"an A-label in capitals", "XN--BCHER-KVA.EXAMPLE", "xn--bcher-kva.example", nil},
		{"an A-label in fullwidth letters", "ｘｎ--bcher-kva.example", "xn--bcher-kva.example", nil},
		{"an A-label of nothing", "xn--.com", "", ErrLabel},
		{"an A-label of ASCII", "xn--google-.com", "", ErrIDNA},
		{"an A-label of an A-label", "xn--xn--bcher-kva-.example", "", ErrIDNA},
		{"an A-label that is not Punycode", "xn--0.com", "", ErrIDNA},
		{"an A-label of capital letters", "xn--bcher-2pa.example", "", ErrIDNA},
		{"an A-label that hides a dot", "xn--googlecom-b854c", "", ErrIDNA},
		{"an A-label with a letter beyond ASCII", "xn--ß-.com", "", ErrIDNA},
		{"an A-label with a fullwidth digit", "xn--bcher-kva８.example", "", ErrIDNA},
		{"an A-label after an ideographic dot", "www。xn--bcher-kva.bücher.example", "www.xn--bcher-kva.xn--bcher-kva.example", nil},
		{"an underscore at the start", "_dmarc.example.com", "_dmarc.example.com", nil},
		{"a hyphen at the start", "-x.example.com", "", ErrLabel},
		{"the root", ".", "", ErrEmpty},
		{"two dots at the end", "google.com..", "", ErrLabel},
		{"a dot of each kind at the end", "google.com.。", "", ErrLabel},
		{"a dot at the start", ".google.com", "", ErrLabel},
		{"63 bytes of label", strings.Repeat("a", 63) + ".com", strings.Repeat("a", 63) + ".com", nil},
		{"64 bytes of label", strings.Repeat("a", 64) + ".com", "", ErrLabel},
		{"a label that is too long as an A-label only", strings.Repeat("ü", 60) + ".com", "", ErrLabel},
		{"a name that is too long as A-labels only", strings.Repeat("ü.", 34) + "com", "", ErrTooLong},
		{"a NUL", "google.com\x00.evil.example", "", ErrByte},
		{"a tab", "google.com\t", "", ErrByte},
		{"a byte that is not UTF-8", "google\xc0\xaecom", "", ErrIDNA}, // an overlong dot
		{"a surrogate in UTF-8", "\xed\xa0\x80.com", "", ErrIDNA},
		{"a backslash", "google.com\\.evil.example", "", ErrByte},
		{"a fragment", "google.com#.evil.example", "", ErrByte},
		{"a user", "google.com@evil.example", "", ErrByte},
		{"a comma", "google.com,evil.example", "", ErrByte},
		{"a last label of digits", "evil.example.1", "", ErrNumeric},
		{"a last label of hexadecimal", "evil.example.0xff", "", ErrNumeric},
		{"an octal part with a nine", "127.0.0.09", "", ErrNumeric},
		{"a part of more than a byte", "127.0.256.1", "", ErrNumeric},
		{"more than 32 bits", "0x100000000", "", ErrNumeric},
		{"a sign", "+127.0.0.1", "", ErrByte},
		{"an exponent", "1e3", "1e3", nil},
	} {
		got, err := Parse(c.spelling)
		if got.String() != c.want || !errors.Is(err, c.why) {
			t.Errorf("%s: Parse(%q) = %q, %v; want %q, %v", c.say, c.spelling, got, err, c.want, c.why)
		}
		host, err := ParseHost(c.spelling)
		if host.Name.String() != c.want {
			t.Errorf("%s: ParseHost(%q) = %v, %v; want %q", c.say, c.spelling, host, err, c.want)
		}
	}
}

// A rule is written in ASCII: what apes its names is not matched by it.
func TestNoWildcardMatchesWhatApesItsNames(t *testing.T) {
	google := MustParsePattern("*.google.com")
	for _, spelling := range []string{"www.gооgle.com", "www.goog1e.com", "www.google.com.evil.example", "www-google.com", "www.google.co", "wwwgoogle.com", "www.xn--google-yri.com"} {
		n, err := Parse(spelling)
		if err == nil && google.Match(n) {
			t.Errorf("%s matches %s (%s)", google, spelling, n)
		}
	}
}
