package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// Pull is one measurement of TLS that a proxy passes on: each connection asks for Size
// bytes again and again, or each ask has a connection of its own. No byte is looked at:
// TLS would end at a wrong one.
type Pull struct {
	Address  string        `json:"address"`
	Conns    int           `json:"conns"`
	Size     int64         `json:"size"`
	Each     bool          `json:"each,omitempty"`   // a connection each
	Resume   bool          `json:"resume,omitempty"` // whose handshakes are resumed
	Duration time.Duration `json:"duration"`
}

// Pulled is what it came to.
type Pulled struct {
	Bytes int64         `json:"bytes"`
	Asks  int           `json:"asks"`
	P50   time.Duration `json:"p50"` // of an ask, its connection with it
	P99   time.Duration `json:"p99"`
	Error string        `json:"error,omitempty"`
}

// pieceSize is how much both ends write and read at a time.
const pieceSize = 64 << 10

// ServePulls answers asks on connections of l, until l closes.
func ServePulls(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go servePulls(conn)
	}
}

func servePulls(conn net.Conn) {
	defer conn.Close()
	var ask [8]byte
	piece := make([]byte, pieceSize)
	for {
		if _, err := io.ReadFull(conn, ask[:]); err != nil {
			return
		}
		for left := binary.BigEndian.Uint64(ask[:]); left > 0; {
			n := min(left, pieceSize)
			if _, err := conn.Write(piece[:n]); err != nil {
				return
			}
			left -= n
		}
	}
}

// ObeyPulls makes the measurements that are ordered on in, as Obey does. Certificates are
// proved by roots.
func ObeyPulls(roots *x509.CertPool, in io.Reader, out io.Writer) error {
	orders, said := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var p Pull
		if err := orders.Decode(&p); err != nil {
			return ignoreEnd(err)
		}
		if err := obeyPull(p, roots, orders, said); err != nil {
			return ignoreEnd(err)
		}
	}
}

func obeyPull(p Pull, roots *x509.CertPool, orders *json.Decoder, said *json.Encoder) error {
	all := make([]*puller, p.Conns)
	for i := range all {
		all[i] = &puller{order: p, config: &tls.Config{ServerName: Host, RootCAs: roots, MinVersion: tls.VersionTLS13}, piece: make([]byte, pieceSize)}
		if p.Resume {
			all[i].config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		}
		defer all[i].close()
	}
	each := func(work func(*puller) error) string {
		errs := make([]error, len(all))
		var group sync.WaitGroup
		for i, one := range all {
			group.Go(func() { errs[i] = work(one) })
		}
		group.Wait()
		if err := errors.Join(errs...); err != nil {
			return err.Error()
		}
		return ""
	}
	var ready Ready
	if p.Conns < 1 || p.Conns > MaxConns || p.Size < 1 {
		ready.Error = fmt.Sprintf("%d connections of %d bytes are not possible", p.Conns, p.Size)
	} else {
		ready.Error = each(func(one *puller) error { _, err := one.ask(time.Now()); return err }) // proof, session, connection
	}
	if err := said.Encode(ready); err != nil || ready.Error != "" {
		return err
	}
	var word any
	if err := orders.Decode(&word); err != nil {
		return err
	}
	began := time.Now()
	result := Pulled{Error: each(func(one *puller) error { return one.run(began) })}
	var took []time.Duration
	for _, one := range all {
		took = append(took, one.took...)
	}
	if result.Asks = len(took); result.Asks > 0 {
		slices.Sort(took)
		result.P50, result.P99 = took[len(took)/2], took[len(took)*99/100]
	}
	result.Bytes = int64(result.Asks) * p.Size
	return said.Encode(result)
}

// puller is one connection, or one after the other.
type puller struct {
	order  Pull
	config *tls.Config
	conn   *tls.Conn
	piece  []byte
	took   []time.Duration
}

func (p *puller) run(began time.Time) error {
	for asked := time.Now(); ; {
		now, err := p.ask(asked)
		if err != nil {
			return err
		}
		p.took = append(p.took, now.Sub(asked))
		if now.Sub(began) >= p.order.Duration {
			return nil
		}
		asked = now
	}
}

// ask asks once and returns when the whole answer was there.
func (p *puller) ask(now time.Time) (time.Time, error) {
	if p.conn == nil {
		if err := p.connect(now); err != nil {
			return now, err
		}
	}
	p.conn.SetDeadline(now.Add(p.order.Duration + stuck))
	var ask [8]byte
	binary.BigEndian.PutUint64(ask[:], uint64(p.order.Size))
	if _, err := p.conn.Write(ask[:]); err != nil {
		return now, err
	}
	for left := p.order.Size; left > 0; {
		n, err := p.conn.Read(p.piece[:min(left, pieceSize)])
		if err != nil {
			return now, err
		}
		left -= int64(n)
	}
	if p.order.Each {
		p.close()
	}
	return time.Now(), nil
}

func (p *puller) connect(now time.Time) error {
	ctx, cancel := context.WithDeadline(context.Background(), now.Add(stuck))
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.order.Address)
	if err != nil {
		return err
	}
	p.conn = tls.Client(conn, p.config)
	if err := p.conn.HandshakeContext(ctx); err != nil {
		return err
	}
	if p.order.Resume && p.took != nil && !p.conn.ConnectionState().DidResume {
		return errors.New("a handshake was not resumed")
	}
	return nil
}

func (p *puller) close() {
	if p.conn != nil {
		p.conn.Close()
		p.conn = nil
	}
}
