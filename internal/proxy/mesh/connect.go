package mesh

import (
	"context"
	"errors"
	"net"
	"slices"
	"syscall"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/upstream"
	"sluice.dev/sluice/internal/refusal"
	"sluice.dev/sluice/internal/wire"
)

// maxTries bounds the endpoints that one call is tried on.
const maxTries = 5

// candidates is the endpoints that may take one call, and those that did not.
type candidates struct {
	way      *Way
	versions upstream.Versions
	port     uint16
	fit      []*wire.Endpoint
	current  *wire.Endpoint
	hold     hold // of the call at current
	tried    [maxTries]*wire.Endpoint
	n        int
}

// next goes on to another endpoint, where the current one did not take the connection
// and said so with err; it reports false where there is none. Nothing was sent before a
// connection is there, so that no request is sent twice by it.
func (c *candidates) next(err error) bool {
	if !mayGoElsewhere(err) || c.n+1 >= maxTries {
		return false
	}
	c.tried[c.n] = c.current
	c.n++
	from := slices.Index(c.fit, c.current) + 1
	next := c.way.nextOf(c.fit, c.tried[:c.n], from, c.port)
	if next == nil {
		return false
	}
	c.current = next
	c.hold.move(next)
	return true
}

// mayGoElsewhere reports whether an endpoint did not take the connection, and said so
// at once: whoever waits for one that does not answer has no time for a second.
func mayGoElsewhere(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, capture.ErrFactoryGone) || errors.Is(err, net.ErrClosed) ||
		refusal.Of(err).Reason == noEndpoint
}

// explain says why nobody took a call: by what is known of the endpoints, where that
// says it of all of them.
func (c *candidates) explain(err error) error {
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	for _, e := range c.fit {
		if c.way.unready(e, c.port) == nil {
			return err // it should have taken it
		}
	}
	return c.way.noneReady(c.fit, c.port)
}

// connect connects to the endpoint that was chosen, or to another where that refuses;
// d.Endpoint is the one that was reached.
func (w *Way) connect(ctx context.Context, d *Decision, port uint16) (*net.TCPConn, error) {
	if refused := d.hold.connect(); refused != nil {
		return nil, refused
	}
	c := candidates{way: w, port: port, fit: d.fit, current: d.Endpoint, hold: d.hold}
	for {
		conn, err := w.dial(ctx, c.current, port)
		if err == nil {
			d.Endpoint, d.hold = c.current, c.hold
			return conn, nil
		}
		if !c.next(err) {
			d.hold = c.hold
			return nil, c.explain(err)
		}
	}
}

// call is one request on its way to an endpoint: an exchange.Choice of that one's pool,
// and of another's where it refuses the connection. It leads its attempts too.
type call struct {
	candidates
	noted *noted
	rule  string
	pool  *upstream.Pool

	another     *wire.Endpoint // that the next attempt would go to
	anotherPool *upstream.Pool
}

// begin is for the next request.
func (c *call) begin(n *noted, d *Decision, port uint16) error {
	n.via(d.Endpoint, d.Rule)
	of, perConn := d.hold.pooled(nil)
	pool, err := n.way.pool(d.Endpoint, port, d.Versions, of, perConn)
	c.candidates = candidates{way: n.way, versions: d.Versions, port: port, fit: d.fit, current: d.Endpoint, hold: d.hold}
	c.noted, c.rule, c.pool = n, d.Rule, pool
	return err
}

// Chosen implements exchange.Choice.
func (c *call) Chosen() exchange.Upstream { return c.pool }

// Take implements exchange.Upstream.
func (c *call) Take() exchange.Stream { return c.pool.Take() }

// Dial implements exchange.Upstream.
func (c *call) Dial(ctx context.Context) (exchange.Stream, error) {
	for {
		stream, err := c.pool.Dial(ctx)
		if err == nil {
			return stream, nil
		}
		if !c.next(err) {
			return nil, c.explain(err)
		}
		c.noted.via(c.current, c.rule)
		of, perConn := c.hold.pooled(nil)
		if c.pool, err = c.way.pool(c.current, c.port, c.versions, of, perConn); err != nil {
			return nil, err
		}
		if stream := c.pool.Take(); stream != nil {
			return stream, nil // its peer was there a moment ago
		}
	}
}

// Another implements follow.Attempts: the endpoint after the current one, or that again where
// there is no other.
func (c *call) Another() bool {
	c.another = c.way.nextOf(c.fit, nil, slices.Index(c.fit, c.current)+1, c.port)
	if c.another == nil || !c.hold.again() {
		return false
	}
	of, perConn := c.hold.pooled(c.another)
	var err error
	c.anotherPool, err = c.way.pool(c.another, c.port, c.versions, of, perConn)
	return err == nil
}

// Turn implements follow.Attempts.
func (c *call) Turn() {
	c.current, c.n, c.pool = c.another, 0, c.anotherPool
	c.hold.move(c.current)
	c.noted.via(c.current, c.rule)
}
