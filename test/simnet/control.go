package simnet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// controlHandler serves Control.
func (s *servers) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /records", func(w http.ResponseWriter, r *http.Request) {
		kept := []Record{}
		for _, record := range s.log.all() {
			if fits(r.URL.Query(), record) {
				kept = append(kept, record)
			}
		}
		writeJSON(w, kept)
	})
	mux.HandleFunc("POST /lie", func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Query().Get("name")
		if name == "" {
			http.Error(w, "name is missing", http.StatusBadRequest)
			return
		}
		s.dns.lie(name, r.URL.Query()["addr"])
	})
	mux.HandleFunc("POST /publish", func(w http.ResponseWriter, r *http.Request) {
		port, err := strconv.ParseUint(r.URL.Query().Get("port"), 10, 16)
		if err == nil {
			err = s.publish(r.URL.Query().Get("name"), uint16(port), r.URL.Query().Get("socket"))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	mux.HandleFunc("GET /certificate", func(w http.ResponseWriter, r *http.Request) {
		pair, err := s.trusted.keyPair(r.URL.Query().Get("name"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Write(pair)
	})
	mux.HandleFunc("POST /reset", func(http.ResponseWriter, *http.Request) {
		s.dns.stopLying()
		s.log.reset()
	})
	return mux
}

func fits(q url.Values, r Record) bool {
	server, kind := q.Get("server"), q.Get("kind")
	return (server == "" || server == r.Server) && (kind == "" || kind == string(r.Kind))
}

// Control asks a running internet what it saw, and tells its resolver to lie.
type Control struct {
	Path string // of the control socket
}

// Records returns what the server of a site saw, oldest first; server is the
// first name of its site ("" is any), kind "" any kind.
func (c Control) Records(ctx context.Context, server string, kind Kind) ([]Record, error) {
	body, err := c.do(ctx, http.MethodGet, "/records?"+url.Values{"server": {server}, "kind": {string(kind)}}.Encode())
	if err != nil {
		return nil, err
	}
	var records []Record
	if err := json.Unmarshal(body, &records); err != nil {
		return nil, fmt.Errorf("records of the small internet: %w", err)
	}
	return records, nil
}

// Lie makes the resolver answer for a name with these addresses, or with one of
// the Lie constants, or "CNAME name"; with nothing at all, that it has no data.
func (c Control) Lie(ctx context.Context, name string, addrs ...string) error {
	_, err := c.do(ctx, http.MethodPost, "/lie?"+url.Values{"name": {name}, "addr": addrs}.Encode())
	return err
}

// Publish gives a name an address of the internet and sends what arrives at one of
// its ports to a unix socket outside, behind which its server is. It stays until the
// internet ends.
func (c Control) Publish(ctx context.Context, name string, port uint16, socket string) error {
	_, err := c.do(ctx, http.MethodPost, "/publish?"+url.Values{"name": {name}, "port": {strconv.Itoa(int(port))}, "socket": {socket}}.Encode())
	return err
}

// Certificate returns a certificate of the internet's CA for a name, and its key, PEM.
func (c Control) Certificate(ctx context.Context, name string) ([]byte, error) {
	return c.do(ctx, http.MethodGet, "/certificate?"+url.Values{"name": {name}}.Encode())
}

// Reset forgets all records and lies.
func (c Control) Reset(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodPost, "/reset")
	return err
}

func (c Control) do(ctx context.Context, method, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var d net.Dialer
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.DialContext(ctx, "unix", c.Path)
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, method, "http://simnet"+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("ask the small internet: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<20))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, bytes.TrimSpace(body))
	}
	return body, err
}
