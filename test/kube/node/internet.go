package node

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"sync"
	"time"

	"sluice.dev/sluice/test/kube/cluster"
)

// Addresses of the small internet, which is on the node's own interface.
const (
	BooksHost    = "www.googleapis.com"
	BooksAddress = "142.250.74.42"
	OtherHost    = "www.example.net"
	OtherAddress = "93.184.215.20"
)

// Internet is two websites outside of the cluster, over TLS.
type Internet struct {
	CA []byte // of their certificates, in PEM

	mu    sync.Mutex
	asked map[string]int // requests by host
}

// Hosts are the names of an Internet.
func Hosts() map[string]string {
	return map[string]string{BooksHost: BooksAddress, OtherHost: OtherAddress}
}

// StartInternet starts it in the node's network, until the process ends.
func StartInternet() (*Internet, error) {
	authority, err := cluster.NewAuthority()
	if err != nil {
		return nil, err
	}
	i := &Internet{CA: authority.Bundle, asked: make(map[string]int)}
	for host, address := range Hosts() {
		if out, err := exec.Command("ip", "address", "add", address+"/32", "dev", "lo").CombinedOutput(); err != nil {
			return nil, fmt.Errorf("the address of %s: %w: %s", host, err, out)
		}
		certificate, key, err := authority.Sign(pkix.Name{CommonName: host}, host)
		if err != nil {
			return nil, err
		}
		pair, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			return nil, err
		}
		listener, err := net.Listen("tcp", net.JoinHostPort(address, "443"))
		if err != nil {
			return nil, err
		}
		server := &http.Server{Handler: i.site(host), TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}}, ReadHeaderTimeout: 10 * time.Second}
		go func() { _ = server.ServeTLS(listener, "", "") }() // until the process ends
	}
	return i, serveNames()
}

// Asked returns how many requests a host has seen.
func (i *Internet) Asked(host string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked[host]
}

func (i *Internet) site(host string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		i.asked[host]++
		i.mu.Unlock()
		if r.URL.Path != "/books/v1/volumes" || r.URL.Query().Get("q") != "isbn:0486424618" {
			fmt.Fprintf(w, "%s of the small internet\n", host)
			return
		}
		type list []map[string]any
		_ = json.NewEncoder(w).Encode(map[string]any{"items": list{{"volumeInfo": map[string]any{ // whoever asked may have gone
			"title": "The Comedy of Errors", "authors": []string{"William Shakespeare"}, "publisher": "Courier Corporation",
			"publishedDate": "2002-01-01", "pageCount": 64, "printType": "BOOK", "language": "en",
			"industryIdentifiers": list{{"type": "ISBN_10", "identifier": "0486424618"}, {"type": "ISBN_13", "identifier": "9780486424613"}},
		}}}})
	})
}
