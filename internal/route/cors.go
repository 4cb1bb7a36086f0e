package route

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice.dev/sluice/internal/httpfield"
)

// Bounds of a CORS.
const (
	MaxCORSValues = 64      // of each of its lists
	MaxCORSBytes  = 2 << 10 // of each of its lists, joined
	MaxCORSAge    = 365 * 24 * time.Hour
)

// CORS says which pages of other origins may read answers (the Fetch standard, section
// 3.2). Without an origin that is allowed nothing is added to an answer, and the browser
// keeps it from the page.
type CORS struct {
	Origins     []string      `json:"origins,omitempty"` // as browsers send them; "*": any
	Methods     []string      `json:"methods,omitempty"`
	Headers     []string      `json:"headers,omitempty"` // of requests
	Expose      []string      `json:"expose,omitempty"`  // of answers
	MaxAge      time.Duration `json:"maxAge,omitempty"`  // whole seconds
	Credentials *bool         `json:"credentials,omitempty"`
}

// Allows reports whether pages of an origin may ask.
func (c *CORS) Allows(origin string) bool {
	return slices.Contains(c.Origins, origin) || slices.Contains(c.Origins, "*")
}

func (c *CORS) check() error {
	for _, list := range [...][]string{c.Origins, c.Methods, c.Headers, c.Expose} {
		joined := strings.Join(list, ",")
		if len(list) > MaxCORSValues || len(joined) > MaxCORSBytes {
			return fmt.Errorf("a list of the CORS policy has %d values of %d bytes: at most %d of %d", len(list), len(joined), MaxCORSValues, MaxCORSBytes)
		}
		if err := httpfield.CheckAppended("access-control", joined); err != nil {
			return fmt.Errorf("CORS policy: %w", err)
		}
	}
	if c.MaxAge < 0 || c.MaxAge > MaxCORSAge || c.MaxAge%time.Second != 0 {
		return fmt.Errorf("a CORS policy for %v: whole seconds, at most %v", c.MaxAge, MaxCORSAge)
	}
	if c.Credentials != nil && *c.Credentials && slices.Contains(c.Origins, "*") {
		return fmt.Errorf("a CORS policy allows credentials to any origin: list the origins")
	}
	return nil
}
