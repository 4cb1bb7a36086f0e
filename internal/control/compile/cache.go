package compile

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"

	"sluice.dev/sluice/internal/wire"
)

// cache keeps what one compilation made for the next: parts by content, and views. What one generation did not use is dropped after the next,
// so it holds at most two generations.
type cache struct {
	domain  string
	decoder *wire.Decoder
	known   generations[*Service, *wire.Part] // endpoints of those of a census; only compile uses it: not locked

	mu    sync.Mutex // parts are made by whoever asks for a view
	parts generations[string, *wire.Part]
	views generations[string, *View] // by class
}

func newCache(domain string) *cache {
	return &cache{domain: domain, decoder: new(wire.Decoder)}
}

func (c *cache) startGeneration() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parts.next()
	c.views.next()
}

// policyParts makes the parts of rules, which come in the order of their IDs.
func (c *cache) policyParts(prefix string, rules []*compiledEgress) ([]*wire.Part, error) {
	var parts []*wire.Part
	for len(rules) > 0 {
		n := chunkLength(rules)
		part, err := c.policyPart(prefix, rules[:n])
		if err != nil {
			return nil, err
		}
		parts, rules = append(parts, part), rules[n:]
	}
	return parts, nil
}

// policyPart joins the JSON of rules that was made once for each.
func (c *cache) policyPart(prefix string, rules []*compiledEgress) (*wire.Part, error) {
	name := wire.PolicyPartName(prefix, rules[0].rule.ID)
	content := sha256.New()
	size := len(`{"rules":[]}`)
	for _, rule := range rules {
		content.Write([]byte(rule.hash))
		size += len(rule.json) + 1
	}
	key := name + "\x00" + string(content.Sum(nil))
	return c.part(key, func() (*wire.Part, error) {
		if size > wire.MaxPartBytes+1 {
			return nil, fmt.Errorf("part %s: %d bytes are more than the %d that one part may have", name, size, wire.MaxPartBytes)
		}
		b := append(make([]byte, 0, size), `{"rules":[`...)
		for i, rule := range rules {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, rule.json...)
		}
		return wire.NewPart(name, append(b, `]}`...))
	})
}

// routesPart encodes routes, policies of destinations and the rules of an ingress unless a class
// had the same ones.
func (c *cache) routesPart(routes []*compiledRoute, destinations []*compiledDestination, ingress *ingressSet) (*wire.Part, error) {
	content := sha256.New()
	for _, route := range routes {
		content.Write([]byte(route.hash))
	}
	content.Write([]byte{0}) // no hash of a rule is one of a policy
	for _, destination := range destinations {
		content.Write([]byte(destination.hash))
	}
	if ingress != nil {
		content.Write([]byte{1})
		content.Write([]byte(ingress.hash))
	}
	key := wire.PartRoutes + "\x00" + string(content.Sum(nil))
	return c.part(key, func() (*wire.Part, error) {
		value := routesValue(routes, destinations)
		if ingress != nil {
			value.Ingress = &ingress.rules
		}
		return wire.EncodePart(wire.PartRoutes, value)
	})
}

// encode makes a part of a value; one of equal content made before is returned
// in its place, so that the snapshots in use share it.
func (c *cache) encode(name string, value any) (*wire.Part, error) {
	fresh, err := wire.EncodePart(name, value)
	if err != nil {
		return nil, err
	}
	return c.part(name+"\x00"+string(fresh.Hash), func() (*wire.Part, error) { return fresh, nil })
}

// endpoints returns the part of a service's endpoints: of one of a census, the part that
// was made of the same value before.
func (c *cache) endpoints(of *Service, make func() (*wire.Part, error)) (*wire.Part, error) {
	if of == nil {
		return make()
	}
	if part, ok := c.known.get(of); ok {
		return part, nil
	}
	part, err := make()
	if err == nil {
		c.known.put(of, part)
	}
	return part, err
}

// part returns the part of this key, made now or before. Two callers may make it
// at once; both get the one that was put last, and they are equal.
func (c *cache) part(key string, build func() (*wire.Part, error)) (*wire.Part, error) {
	c.mu.Lock()
	known, ok := c.parts.get(key)
	c.mu.Unlock()
	if ok {
		return known, nil
	}
	fresh, err := build()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parts.put(key, fresh)
	return fresh, nil
}

// view returns the view of a class that the compilation before made, if it is of these
// parts.
func (c *cache) view(class string, of []*wire.Part) *View {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.views.get(class); ok && slices.Equal(known.from, of) {
		return known
	}
	return nil
}

func (c *cache) keepView(class string, view *View) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.views.put(class, view)
}

// generations is a map that forgets what was not asked for since the generation
// before the last began.
type generations[K comparable, V any] struct{ current, previous map[K]V }

func (g *generations[K, V]) next() {
	g.current, g.previous = g.previous, g.current
	clear(g.current) // its memory is used again
}

func (g *generations[K, V]) get(key K) (V, bool) {
	if value, ok := g.current[key]; ok {
		return value, true
	}
	value, ok := g.previous[key]
	if ok {
		g.put(key, value)
	}
	return value, ok
}

func (g *generations[K, V]) put(key K, value V) {
	if g.current == nil {
		g.current = make(map[K]V)
	}
	g.current[key] = value
}
