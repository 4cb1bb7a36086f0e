package sniff

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// extension is one extension of a hello that a test makes up.
type extension struct {
	kind uint16
	data []byte
}

// madeUp is a ClientHello message, with its header, made of extensions.
func madeUp(extensions ...extension) []byte {
	body := []byte{3, 3}
	body = append(body, make([]byte, 32)...)
	body = append(body, 0)                            // session_id
	body = append(body, 0, 4, 0x13, 0x01, 0xc0, 0x2b) // cipher_suites
	body = append(body, 1, 0)                         // compression_methods
	var list []byte
	for _, e := range extensions {
		list = binary.BigEndian.AppendUint16(list, e.kind)
		list = append(list, vector16(e.data)...)
	}
	if extensions != nil {
		body = append(body, vector16(list)...)
	}
	return message(body)
}

// message puts the header of a ClientHello before its body.
func message(body []byte) []byte {
	return append([]byte{messageClientHello, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
}

func vector8(b []byte) []byte  { return append([]byte{byte(len(b))}, b...) }
func vector16(b []byte) []byte { return append([]byte{byte(len(b) >> 8), byte(len(b))}, b...) }

// records cuts a message into handshake records of at most size bytes.
func records(message []byte, size int) []byte {
	var out []byte
	for len(message) > 0 {
		n := min(size, len(message))
		out = append(out, recordHandshake, 3, 1, byte(n>>8), byte(n))
		out = append(out, message[:n]...)
		message = message[n:]
	}
	return out
}

// one is a message in as few records as can be.
func one(message []byte) []byte { return records(message, maxRecord) }

func serverName(entries ...string) extension {
	var list []byte
	for _, e := range entries {
		list = append(append(list, 0), vector16([]byte(e))...)
	}
	return extension{extensionServerName, vector16(list)}
}

// padding is as long as a server_name that stands behind it should be pushed.
func padding(n int) extension { return extension{21, make([]byte, n)} }

// grease is an extension that clients send to keep servers from minding unknown
// ones (RFC 8701).
func grease(kind uint16) extension { return extension{kind, nil} }

// keyShares are as large as those of X25519MLKEM768 and X25519 together.
var keyShares = extension{51, vector16(append(
	append([]byte{0x11, 0xec}, vector16(make([]byte, 1216))...),
	append([]byte{0, 29}, vector16(make([]byte, 32))...)...))}

var versions13 = extension{extensionSupportedVersions, vector8([]byte{0x7a, 0x7a, 3, 4, 3, 3})}

// helloOf returns what a crypto/tls client says first, and nothing after it.
func helloOf(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		tls.Client(client, config).Handshake()
	}()
	hello := readHello(t, server)
	server.Close()
	<-done
	client.Close()
	return hello
}

// helloOfCommand returns what a command says first to 127.0.0.1:PORT, or nil where
// this machine does not have it.
func helloOfCommand(t testing.TB, command []string) []byte {
	t.Helper()
	if _, err := exec.LookPath(command[0]); err != nil {
		return nil
	}
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.SetDeadline(time.Now().Add(time.Minute))
	_, port, _ := net.SplitHostPort(l.Addr().String())
	args := make([]string, len(command))
	for i, arg := range command {
		args[i] = strings.ReplaceAll(arg, "PORT", port)
	}
	running := exec.Command(args[0], args[1:]...)
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	defer running.Wait() // it ends when its connection does
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return readHello(t, c)
}

// readHello reads one whole ClientHello from c, by Parse's own word.
func readHello(t testing.TB, c net.Conn) []byte {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(time.Minute))
	var hello []byte
	for need := Need(1); need > 0; {
		more := make([]byte, int(need)-len(hello))
		n, err := io.ReadFull(c, more)
		hello = append(hello, more[:n]...)
		if err != nil {
			t.Fatalf("read a hello: %v after %d bytes", err, len(hello))
		}
		_, need = Parse(hello)
	}
	return hello
}

// asServerSees gives the bytes to a crypto/tls server and returns the hello that
// it saw, or the error before that.
func asServerSees(wire []byte) (*tls.ClientHelloInfo, error) {
	var seen *tls.ClientHelloInfo
	stop := errors.New("seen enough")
	server := tls.Server(&oneSided{Reader: bytes.NewReader(wire)}, &tls.Config{
		MinVersion: tls.VersionTLS10,
		GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
			seen = info
			return nil, stop
		},
	})
	err := server.HandshakeContext(context.Background())
	if seen != nil {
		return seen, nil
	}
	return nil, err
}

// oneSided is a net.Conn that only speaks.
type oneSided struct {
	io.Reader
	net.Conn
}

func (c *oneSided) Read(b []byte) (int, error)       { return c.Reader.Read(b) }
func (c *oneSided) Write(b []byte) (int, error)      { return len(b), nil }
func (c *oneSided) Close() error                     { return nil }
func (c *oneSided) SetDeadline(time.Time) error      { return nil }
func (c *oneSided) SetReadDeadline(time.Time) error  { return nil }
func (c *oneSided) SetWriteDeadline(time.Time) error { return nil }
