package attack

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// openTLS opens the door of the allowed host that speaks TLS. It serves a denied name
// too, to who hides it (Encrypted Client Hello): ech, beside the file of its authority,
// is what such a client needs to know.
func (d *doors) openTLS(ca string) func() error {
	return func() error {
		certificate, err := selfSigned("allowed.example", "denied.example")
		if err != nil {
			return err
		}
		config, key, err := echConfig("allowed.example")
		if err != nil {
			return err
		}
		list := append(binary.BigEndian.AppendUint16(nil, uint16(len(config))), config...)
		err = errors.Join(os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}), 0o644),
			os.WriteFile(filepath.Join(filepath.Dir(ca), "ech"), list, 0o644))
		if err != nil {
			return err
		}
		listener, err := net.Listen("tcp", addressAllowed+":443")
		if err != nil {
			return err
		}
		d.close = append(d.close, listener.Close)
		go d.serveTLS(listener, &tls.Config{
			Certificates:             []tls.Certificate{certificate},
			EncryptedClientHelloKeys: []tls.EncryptedClientHelloKey{{Config: config, PrivateKey: key, SendAsRetry: true}},
		})
		return nil
	}
}

func (d *doors) serveTLS(listener net.Listener, config *tls.Config) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		d.entered(doorAllowed) // before the client can know of it: an attempt later counts anew
		go func() {
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(patience))
			server := tls.Server(conn, config)
			if server.Handshake() != nil {
				return
			}
			door := doorAllowed
			if server.ConnectionState().ServerName != "allowed.example" {
				door = "the hidden server"
				d.entered(door)
			}
			server.Write([]byte(greeting(door)))
		}()
	}
}

func selfSigned(names ...string) (c tls.Certificate, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return c, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// echConfig is a configuration of Encrypted Client Hello whose outer name is public, as
// RFC 9849 has it, and its key.
func echConfig(public string) (config, private []byte, err error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	c := []byte{1, 0, 0x20, 0, 32} // its number, X25519, the length of the key
	c = append(c, key.PublicKey().Bytes()...)
	c = append(c, 0, 4, 0, 1, 0, 1) // one suite: HKDF-SHA256, AES-128-GCM
	c = append(c, 32, byte(len(public)))
	c = append(append(c, public...), 0, 0)
	return append(binary.BigEndian.AppendUint16([]byte{0xfe, 0x0d}, uint16(len(c))), c...), key.Bytes(), nil
}
