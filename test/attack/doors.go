package attack

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// doors are the servers of the outside. Each says its own name to whoever comes, and
// how often somebody came is counted, which decides more than what a client believes.
type doors struct {
	mu    sync.Mutex
	came  map[string]int
	close []func() error
}

// greeting is what a door says: an answer of HTTP, so that what passes as HTTP shows it.
func greeting(door string) string {
	body := "this is " + door + "\n"
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
}

func (d *doors) entered(door string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.came[door]++
}

// seen returns how often somebody has come to each door.
func (d *doors) seen() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.came)
}

// since returns a door that nobody may come to, and to which somebody has come.
func (d *doors) since(before map[string]int) (door string, reached bool) {
	for door, times := range d.seen() {
		if door != doorAllowed && times != before[door] {
			return door, true
		}
	}
	return "", false
}

func (d *doors) times(door string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.came[door]
}

const (
	doorAllowed = "the allowed server"
	doorDenied  = "a server that no rule allows"
)

// stream serves a door of streams.
func (d *doors) stream(door string, listener net.Listener) {
	d.close = append(d.close, listener.Close)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			d.entered(door) // before the client can know more than that it has a connection
			go func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(patience))
				first := make([]byte, 4096) // an answer before the question is none of HTTP
				conn.Read(first)
				conn.Write([]byte(greeting(door)))
			}()
		}
	}()
}

// datagrams serves a door of datagrams.
func (d *doors) datagrams(door string, conn net.PacketConn) {
	d.close = append(d.close, conn.Close)
	go func() {
		for buffer := make([]byte, 4096); ; {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			d.entered(door)
			if answer := answerQuestion(buffer[:n]); answer != nil {
				conn.WriteTo(answer, from)
			} else {
				conn.WriteTo([]byte(greeting(door)), from)
			}
		}
	}()
}

func (d *doors) stop() {
	for _, close := range d.close {
		close()
	}
}

// open opens the doors of the network: on each address TCP and UDP on the ports that
// the attempts use.
func (d *doors) open() error {
	var all []error
	for address, door := range map[string]string{
		addressAllowed: doorAllowed, addressDenied: doorDenied, addressOther: "another resolver", addressMetadata: "the metadata service",
		addressPrivate: "a private server", "127.0.0.1": "the machine's loopback", addressDenied6: doorDenied,
	} {
		for _, port := range []string{"53", "80", "443", "853", "5432"} {
			if address == addressAllowed && port == "443" {
				continue // see openTLS
			}
			listener, err := net.Listen("tcp", net.JoinHostPort(address, port))
			if err != nil && address == addressDenied6 {
				continue // a kernel without IPv6
			}
			if err != nil {
				all = append(all, err)
				continue
			}
			d.stream(door, listener)
			conn, err := net.ListenPacket("udp", net.JoinHostPort(address, port))
			if err != nil {
				all = append(all, err)
				continue
			}
			d.datagrams(door, conn)
		}
	}
	return errors.Join(all...)
}

// The names that the resolver of the outside knows.
var zone = map[string]string{
	"allowed.example.": addressAllowed, "denied.example.": addressDenied,
	"private.example.": addressPrivate, "metadata.example.": addressMetadata, "loopback.example.": "127.0.0.1",
}

// serveNames is the resolver that the proxy asks. Nobody else may.
func (d *doors) serveNames() error {
	conn, err := net.ListenPacket("udp", addressResolver+":53")
	if err != nil {
		return err
	}
	d.close = append(d.close, conn.Close)
	go func() {
		for buffer := make([]byte, 4096); ; {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			if answer := answerQuestion(buffer[:n]); answer != nil {
				if bytes.Contains(bytes.ToLower(buffer[:n]), []byte("\x06denied\x07example")) { // which no rule allows
					d.entered("the resolver, which was asked for a denied name,")
				}
				conn.WriteTo(answer, from)
			}
		}
	}()
	return nil
}

// answerQuestion returns nil for what is not a question.
func answerQuestion(question []byte) []byte {
	var message dnsmessage.Message
	if message.Unpack(question) != nil || len(message.Questions) != 1 || message.Response {
		return nil
	}
	q := message.Questions[0]
	message.Response, message.RecursionAvailable, message.Additionals = true, true, nil
	address, known := zone[strings.ToLower(q.Name.String())]
	switch {
	case !known:
		message.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		message.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1},
			Body:   &dnsmessage.AResource{A: [4]byte(net.ParseIP(address).To4())},
		}}
	}
	answer, err := message.Pack()
	if err != nil {
		return nil
	}
	return answer
}
