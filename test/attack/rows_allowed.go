package attack

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// speak connects, says something and returns all that comes back.
func speak(network, address, say string) (string, error) {
	dialer := net.Dialer{Timeout: patience / 2}
	conn, err := dialer.Dial(network, address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience / 4))
	if _, err := conn.Write([]byte(say)); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	if len(answer) > 0 {
		return string(answer), nil
	}
	return "", err
}

// get asks an address for a page of a host; it is nil where a door answers.
func get(address, host string) error {
	answer, err := speak("tcp", address, "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
	return greeted(answer, err)
}

// greeted is nil where a door outside has answered.
func greeted(answer string, err error) error {
	first, _, _ := strings.Cut(answer, "\r\n")
	switch {
	case err != nil:
		return held("no answer: " + err.Error())
	case strings.Contains(answer, "this is "):
		return nil
	case answer == "":
		return held("the connection was closed without an answer")
	}
	return held("the proxy answers " + first)
}

// resolved asks the machine's resolver for a name; without a sandbox that is not the
// one of the outside.
func (in *Inside) resolved(name string) (string, error) {
	if in.Bare {
		return zone[name+"."], nil
	}
	addresses, err := net.LookupHost(name)
	if err != nil {
		return "", err
	}
	return addresses[0], nil
}

func allowedRows() []Row {
	return []Row{
		{
			ID: "allowed-http", Tried: "Ask an allowed host for a page", Right: "its answer arrives", Works: true,
			Inside: func(in *Inside) error {
				address, err := in.resolved("allowed.example")
				if err != nil {
					return err
				}
				return get(net.JoinHostPort(address, "80"), "allowed.example")
			},
		},
		{
			ID: "allowed-tcp", Tried: "Speak with an allowed server that is neither HTTP nor TLS", Right: "its answer arrives", Works: true,
			Inside: func(in *Inside) error {
				address, err := in.resolved("allowed.example")
				if err != nil {
					return err
				}
				answer, err := speak("tcp", net.JoinHostPort(address, "5432"), "\x00hello\x00")
				return greeted(answer, err)
			},
		},
		{
			ID: "allowed-tls", Tried: "Begin TLS with an allowed host", Right: "its handshake is done", Works: true,
			Inside: func(in *Inside) error {
				address, err := in.resolved("allowed.example")
				if err != nil {
					return err
				}
				return handshake(net.JoinHostPort(address, "443"), &tls.Config{ServerName: "allowed.example"})
			},
		},
		{
			ID: "own-loopback", Tried: "Speak with a server of the command's own on its loopback", Right: "its answer arrives", Works: true,
			Inside: func(*Inside) error {
				listener, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					return err
				}
				go func() {
					if conn, err := listener.Accept(); err == nil {
						fmt.Fprint(conn, greeting("inside"))
						conn.Close()
					}
				}()
				return get(listener.Addr().String(), "localhost")
			},
		},
	}
}
