package follow

import (
	"strconv"
	"strings"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/route"
)

// cors answers for the pages of other origins, as a route rule says. It belongs to one
// connection.
type cors struct {
	origin string
	look   func(value string) bool // sets origin; made once, for a closure is an allocation
	edits  exchange.AnswerEdits
}

// vary keeps caches from answering one origin with what was for another.
var vary = []exchange.Field{{Name: "vary", Value: "origin"}}

// credentials is what a service may not allow where the rule does not: to any origin it would
// have no effect, but what the page gets names its own.
var credentials = []string{"access-control-allow-credentials"}

// read reads whose page asks; false where it is none, or none that the policy allows.
func (c *cors) read(x *exchange.Request, policy *route.CORS) bool {
	if c.look == nil {
		c.look = func(value string) bool { c.origin = value; return false }
	}
	c.origin = ""
	x.Values("origin", c.look)
	return c.origin != "" && policy.Allows(c.origin)
}

// preflight answers a browser that asks before it sends a request; false where the request
// is another one.
func (c *cors) preflight(x *exchange.Request, policy *route.CORS) (*exchange.Reply, bool) {
	if x.Method != "OPTIONS" {
		return nil, false
	}
	asks := false
	x.Values("access-control-request-method", func(value string) bool { asks = value != ""; return !asks })
	if !asks {
		return nil, false
	}
	reply := &exchange.Reply{Status: 200, Message: "This is what pages of this origin may do."}
	add := func(name, value string) {
		if value != "" {
			reply.Header = append(reply.Header, exchange.Field{Name: name, Value: value})
		}
	}
	add("access-control-allow-methods", strings.Join(policy.Methods, ","))
	add("access-control-allow-headers", strings.Join(policy.Headers, ","))
	if policy.MaxAge > 0 {
		add("access-control-max-age", strconv.Itoa(int(policy.MaxAge/time.Second)))
	}
	return reply, true
}

// answer is what an answer to the page says besides; until the next read.
func (c *cors) answer(policy *route.CORS, preflight bool) *exchange.AnswerEdits {
	set := append(c.edits.Set[:0], exchange.Field{Name: "access-control-allow-origin", Value: c.origin})
	if policy.Credentials != nil {
		set = append(set, exchange.Field{Name: "access-control-allow-credentials", Value: strconv.FormatBool(*policy.Credentials)})
	}
	if len(policy.Expose) > 0 && !preflight {
		set = append(set, exchange.Field{Name: "access-control-expose-headers", Value: strings.Join(policy.Expose, ",")})
	}
	c.edits = exchange.AnswerEdits{Set: set, Append: vary}
	if policy.Credentials == nil {
		c.edits.Remove = credentials
	}
	return &c.edits
}
