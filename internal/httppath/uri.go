package httppath

import (
	"fmt"
	"strings"
)

// MaxURI bounds the path of a redirect or a rewrite, in bytes.
const MaxURI = 4 << 10

// CheckURI refuses what cannot stand in a request line as a path with or without a query.
func CheckURI(uri string) error {
	switch {
	case uri == "" || uri[0] != '/':
		return fmt.Errorf("uri %q does not begin with \"/\"", uri)
	case len(uri) > MaxURI:
		return fmt.Errorf("uri of %d bytes: at most %d", len(uri), MaxURI)
	}
	for i := range len(uri) {
		switch c := uri[i]; {
		case c <= ' ' || c >= 0x7f || c == '#':
			return fmt.Errorf("uri %q has a byte that must be percent-encoded", uri)
		case c == '%' && (i+2 >= len(uri) || !isHex(uri[i+1]) || !isHex(uri[i+2])):
			return fmt.Errorf("uri %q has broken percent-encoding", uri)
		}
	}
	return nil
}

// CheckRewrite refuses a query in what takes the place of a path: that of the request stays
// behind it.
func CheckRewrite(uri string) error {
	if strings.Contains(uri, "?") {
		return fmt.Errorf("%q has a query, and that of the request stays: write a path alone", uri)
	}
	return nil
}
