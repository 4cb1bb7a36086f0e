package simnet

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"

	"crypto/x509"
)

// published are the names whose servers run outside of the internet: each has an
// address here, and what arrives at one of its ports goes to a unix socket there.
type published struct {
	mu    sync.Mutex
	names map[string]*publication // in lower case
}

type publication struct {
	addr  netip.Addr
	ports map[uint16]string // the sockets
}

// maxPublished is how many names can be published: the addresses of publishedAddr.
const maxPublished = 250

// publishedAddr is the address of the nth name, from 0.
func publishedAddr(n int) netip.Addr { return netip.AddrFrom4([4]byte{151, 101, 1, byte(n + 1)}) }

// addressOf is the address of a name in lower case that was published.
func (p *published) addressOf(name string) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := p.names[name]; at != nil {
		return at.addr.String(), true
	}
	return "", false
}

// add gives a name its address, and a port of it its socket. again says that the port
// is served already, now with this socket.
func (p *published) add(name string, port uint16, socket string) (at netip.AddrPort, again bool, err error) {
	if _, own := records(name); own {
		return at, false, fmt.Errorf("%s is served by the small internet itself", name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	to := p.names[name]
	if to == nil {
		if len(p.names) == maxPublished {
			return at, false, fmt.Errorf("at most %d names can be published", maxPublished)
		}
		if p.names == nil {
			p.names = make(map[string]*publication)
		}
		to = &publication{addr: publishedAddr(len(p.names)), ports: make(map[uint16]string)}
		p.names[name] = to
	}
	_, again = to.ports[port]
	to.ports[port] = socket
	return netip.AddrPortFrom(to.addr, port), again, nil
}

func (p *published) socket(name string, port uint16) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.names[name].ports[port]
}

// publish listens at a port of a name for the server behind a unix socket. A second
// call for the same port moves it to another socket.
func (s *servers) publish(name string, port uint16, socket string) error {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == "" || port == 0 || socket == "" {
		return errors.New("a name, a port and a socket are required")
	}
	at, again, err := s.published.add(name, port, socket)
	if err != nil || again {
		return err
	}
	return s.listen(name, at, func(c net.Conn) {
		outside, err := net.Dial("unix", s.published.socket(name, port))
		if err != nil {
			c.Close() // as where nobody is behind a port
			return
		}
		join(c.(*net.TCPConn), outside.(*net.UnixConn))
	})
}

// join carries bytes between two connections until both sides are done.
func join(a *net.TCPConn, b *net.UnixConn) {
	defer a.Close()
	defer b.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(b, a)
		b.CloseWrite()
	}()
	io.Copy(a, b)
	a.CloseWrite()
	<-done
}

// keyPair is the certificate of a name with its key, PEM, as servers take them.
func (a *authority) keyPair(name string) ([]byte, error) {
	c, err := a.issue(name)
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return nil, err
	}
	pair := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
	return append(pair, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...), nil
}
