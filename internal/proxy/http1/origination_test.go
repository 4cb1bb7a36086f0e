package http1_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice.dev/sluice/internal/proxy/exchange"
	"sluice.dev/sluice/internal/proxy/upstream"
)

// realOrigin is net/http's server, over TLS where secure is set: a second
// opinion about what we send.
func realOrigin(t testing.TB, handler http.Handler, secure bool) upstream.Config {
	t.Helper()
	l := listen(t)
	server := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0)}
	var listener net.Listener = l
	var client *tls.Config
	if secure {
		cert, roots := selfSigned(t, "a.example")
		listener = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}})
		client = &tls.Config{ServerName: "a.example", RootCAs: roots}
	}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return upstream.Config{Dial: dialTo(l.Addr().String()), TLS: client}
}

func selfSigned(t testing.TB, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// echoing answers with the request's body, in one of the ways there are.
func echoing(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(400)
		return
	}
	w.Header().Set("X-Path", r.URL.Path)
	switch r.Header.Get("X-Way") {
	case "length":
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	case "close":
		w.Header().Set("Connection", "close")
	case "chunks":
		for i := 0; i < len(body); i += 5000 {
			w.Write(body[i:min(i+5000, len(body))])
			w.(http.Flusher).Flush()
		}
		return
	}
	w.Write(body)
}

// TestManyClientsOfAllKindsAtOnce sends bodies of all sizes in all framings
// through the engine, between net/http's client and server.
func TestManyClientsOfAllKindsAtOnce(t *testing.T) {
	for name, secure := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, answering(hello), options{pool: realOrigin(t, http.HandlerFunc(echoing), secure), direction: allowingUpgrades})
			transport := &http.Transport{MaxIdleConnsPerHost: 16, DisableCompression: true}
			defer transport.CloseIdleConnections()
			address := "http://" + f.listener.Addr().String()
			var clients sync.WaitGroup
			for i := range 16 {
				random := mathrand.New(mathrand.NewPCG(1, uint64(i)))
				clients.Go(func() {
					for j := range 60 {
						size := random.IntN(1 << random.IntN(19))
						body := strings.Repeat(string(rune('a'+j%26)), size)
						var reader io.Reader = strings.NewReader(body)
						if random.IntN(2) == 0 {
							reader = struct{ io.Reader }{reader} // of no known length: chunks
						}
						method := []string{"POST", "PUT", "GET"}[random.IntN(3)]
						request, err := http.NewRequest(method, fmt.Sprintf("%s/%d/%d", address, i, j), reader)
						if err != nil {
							t.Error(err)
							return
						}
						request.Header.Set("X-Way", []string{"length", "close", "chunks", ""}[random.IntN(4)])
						if random.IntN(8) == 0 {
							request.Header.Set("Expect", "100-continue")
						}
						response, err := transport.RoundTrip(request)
						if err != nil {
							t.Errorf("%s of %d bytes: %v", method, size, err)
							return
						}
						got, err := io.ReadAll(response.Body)
						response.Body.Close()
						if err != nil || response.StatusCode != 200 || string(got) != body || response.Header.Get("X-Path") != request.URL.Path {
							t.Errorf("%s of %d bytes: %s, %d bytes, %v", method, size, response.Status, len(got), err)
							return
						}
					}
				})
			}
			clients.Wait()
		})
	}
}

func TestAFailedHandshakeIsTold(t *testing.T) {
	config := realOrigin(t, http.HandlerFunc(echoing), true)
	_, config.TLS.RootCAs = selfSigned(t, "a.example")
	f := newFixture(t, answering(hello), options{pool: config, direction: func(f *fixture, x *exchange.Request) exchange.Direction {
		return exchange.Direction{Upstream: f.pool, Explain: true}
	}})
	c := f.client().send(get)
	if head := c.head(); status(head) != "502" || !strings.Contains(head, "x-sluice-reason: upstream-certificate\r\n") {
		t.Errorf("answered %q", head)
	}
	if body := c.line(); !strings.Contains(body, "certificate signed by unknown authority") {
		t.Errorf("told %q", body)
	}
}

func TestAnUpgradeOverTLSIsARelay(t *testing.T) {
	f := newFixture(t, answering(hello), options{direction: allowingUpgrades, pool: realOrigin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
		io.Copy(c, buffered)
		io.WriteString(c, "bye")
	}), true)})
	c := f.client().send(upgrade).want("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
	for range 10 {
		c.send("hello").want("hello")
	}
	c.CloseWrite()
	c.want("bye")
	c.wantEnd()
}

// A server that answers one request twice, the second time in a record of its own, does
// not answer the next client's request with it.
func TestASecondAnswerOverTLSNeverReachesTheNextRequest(t *testing.T) {
	answer := func(text string) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s", len(text), text)
	}
	said := make(chan struct{}, 20)
	f := newFixture(t, answering(hello), options{pool: realOrigin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if _, err := io.WriteString(c, answer("for "+r.URL.Path)); err == nil {
			io.WriteString(c, answer("for nobody"))
		}
		said <- struct{}{}
		io.Copy(io.Discard, c)
	}), true)})
	for i := range 20 {
		path := fmt.Sprintf("/%d", i)
		f.client().send("GET %s HTTP/1.1\r\nHost: a.example\r\n\r\n", path).want(answer("for " + path))
		<-said
	}
}
