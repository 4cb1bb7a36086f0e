package load

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// Order is one measurement that a load is asked to make.
type Order struct {
	Address  string        `json:"address"`
	Conns    int           `json:"conns"`
	Requests int           `json:"requests,omitempty"` // of each connection, before it is ready
	Duration time.Duration `json:"duration"`
}

// Result is what it came to.
type Result struct {
	Requests int           `json:"requests"` // whole answers, each checked
	Took     time.Duration `json:"took"`
	P50      time.Duration `json:"p50"`
	P99      time.Duration `json:"p99"`
	Error    string        `json:"error,omitempty"` // an answer was wrong or missing
}

// Clients are the connections of one order, warm and idle until Run.
type Clients struct {
	order Order
	all   []*client
}

type client struct {
	conn    net.Conn
	request []byte
	reader  reader
	took    []time.Duration
}

// stuck bounds the wait for one answer.
const stuck = 10 * time.Second

// Connect opens the connections and warms each up.
func Connect(o Order) (*Clients, error) {
	if o.Conns < 1 || o.Conns > MaxConns {
		return nil, fmt.Errorf("%d connections are not within 1 to %d", o.Conns, MaxConns)
	}
	c := &Clients{order: o}
	for i := range o.Conns {
		conn, err := net.DialTimeout("tcp", o.Address, stuck)
		if err != nil {
			c.Close()
			return nil, err
		}
		one := &client{conn: conn, request: request(i), took: make([]time.Duration, 0, 1<<16)}
		one.reader = reader{from: conn, want: body(i)}
		c.all = append(c.all, one)
	}
	err := c.each(func(one *client) error {
		for range o.Requests {
			if err := one.ask(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// ask sends one request and checks its answer.
func (c *client) ask() error {
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	return c.reader.next()
}

// each runs f for every connection at once.
func (c *Clients) each(f func(*client) error) error {
	errs := make([]error, len(c.all))
	var work sync.WaitGroup
	for i, one := range c.all {
		work.Go(func() {
			one.conn.SetDeadline(time.Now().Add(c.order.Duration + stuck))
			if err := f(one); err != nil {
				errs[i] = fmt.Errorf("connection %d: %w", i, err)
			}
		})
	}
	work.Wait()
	return errors.Join(errs...)
}

// Run asks until the order's time is over and every request was answered.
func (c *Clients) Run() Result {
	for _, one := range c.all {
		one.took = one.took[:0]
	}
	began := time.Now()
	err := c.each(func(one *client) error {
		asked := time.Now()
		for { // at least once, however late it came to begin
			if err := one.ask(); err != nil {
				return err
			}
			now := time.Now()
			one.took = append(one.took, now.Sub(asked))
			if now.Sub(began) >= c.order.Duration {
				return nil
			}
			asked = now
		}
	})
	r := Result{Took: time.Since(began)}
	if err != nil {
		r.Error = err.Error()
	}
	var all []time.Duration
	for _, one := range c.all {
		all = append(all, one.took...)
	}
	if r.Requests = len(all); r.Requests > 0 {
		slices.Sort(all)
		r.P50, r.P99 = all[len(all)/2], all[len(all)*99/100]
	}
	return r
}

// Close closes the connections.
func (c *Clients) Close() {
	for _, one := range c.all {
		one.conn.Close()
	}
}
