package egress

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"sluice.dev/sluice/bench/load"
)

// Addresses of the namespace, which owns every address.
const (
	upstreamAddr = "93.184.215.14"
	resolverAddr = "8.8.8.8:53"
	throughPort  = 8443 // where TLS is passed on
)

// Files that the upstream writes.
const (
	caFile    = "ca.pem"
	namesFile = "names.map" // what HAProxy's map is read from
)

// ruleCount is how many names are allowed; load.Host is one of them.
const ruleCount = 1000

// allowedNames are the names of the rules, and of HAProxy's map.
func allowedNames() []string {
	all := make([]string, 0, ruleCount)
	for i := range ruleCount - 1 {
		all = append(all, fmt.Sprintf("host-%03d.example.com", i))
	}
	return append(all, load.Host)
}

// Upstream is the role of the server: it writes its files into dir, serves HTTP,
// HTTPS and DNS, says so, and ends with its input.
func Upstream(dir string, in io.Reader, out io.Writer) error {
	certificate, ca, err := newCertificate()
	if err != nil {
		return err
	}
	err = errors.Join(
		os.WriteFile(filepath.Join(dir, caFile), ca, 0o600),
		os.WriteFile(filepath.Join(dir, namesFile), []byte(strings.Join(allowedNames(), " 1\n")+" 1\n"), 0o600))
	if err != nil {
		return err
	}
	plain, err := listen(upstreamAddr + ":80")
	if err != nil {
		return err
	}
	secure, err := listen(upstreamAddr + ":443")
	if err != nil {
		return err
	}
	through, err := listen(fmt.Sprintf("%s:%d", upstreamAddr, throughPort))
	if err != nil {
		return err
	}
	questions, err := net.ListenPacket("udp", resolverAddr)
	if err != nil {
		return err
	}
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13}
	failed := make(chan error, 4)
	go func() { failed <- load.Serve(plain) }()
	go func() { failed <- load.Serve(tls.NewListener(secure, config)) }()
	go func() { failed <- load.ServePulls(tls.NewListener(through, config)) }()
	go func() { failed <- answerNames(questions) }()
	go func() { io.Copy(io.Discard, in); failed <- nil }()
	fmt.Fprintln(out, "{}")
	return <-failed
}

// listen is without multipath TCP, which the contenders do not speak either.
func listen(address string) (*net.TCPListener, error) {
	var c net.ListenConfig
	c.SetMultipathTCP(false)
	l, err := c.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// newCertificate makes a CA and a certificate of load.Host.
func newCertificate() (tls.Certificate, []byte, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: load.Host}, DNSNames: []string{load.Host},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), nil
}

// answerNames says that every name is at upstreamAddr and has no IPv6 address.
func answerNames(conn net.PacketConn) error {
	address := netip.MustParseAddr(upstreamAddr).As4()
	buffer := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buffer)
		if err != nil {
			return err
		}
		var p dnsmessage.Parser
		header, err := p.Start(buffer[:n])
		if err != nil {
			continue
		}
		question, err := p.Question()
		if err != nil {
			continue
		}
		reply := dnsmessage.Message{
			Header:    dnsmessage.Header{ID: header.ID, Response: true, Authoritative: true, RecursionDesired: header.RecursionDesired, RecursionAvailable: true},
			Questions: []dnsmessage.Question{question},
		}
		if question.Type == dnsmessage.TypeA {
			reply.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: 3600},
				Body:   &dnsmessage.AResource{A: address},
			}}
		}
		packed, err := reply.Pack()
		if err != nil {
			continue
		}
		if _, err := conn.WriteTo(packed, from); err != nil {
			return err
		}
	}
}
