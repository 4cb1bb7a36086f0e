package simnet

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Bounds of what a client may ask for.
const (
	maxBytes = 1 << 30
	maxDelay = 60 * time.Second
)

// handler answers as a site: the endpoints below for its names, 421 for others.
func (s *site) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s of the small internet\n", r.Host)
	})
	mux.HandleFunc("GET /books/v1/volumes", books)
	mux.HandleFunc("/headers", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, map[string]any{"method": r.Method, "host": r.Host, "url": r.URL.String(), "proto": r.Proto, "headers": r.Header})
	})
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		if code, ok := number(w, r, "code", 200, 599); ok {
			w.WriteHeader(int(code))
		}
	})
	mux.HandleFunc("/delay/{milliseconds}", func(w http.ResponseWriter, r *http.Request) {
		n, ok := number(w, r, "milliseconds", 0, int64(maxDelay/time.Millisecond))
		if !ok {
			return
		}
		select {
		case <-time.After(time.Duration(n) * time.Millisecond):
			fmt.Fprintf(w, "%d ms later\n", n)
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("GET /bytes/{count}", func(w http.ResponseWriter, r *http.Request) {
		if n, ok := number(w, r, "count", 0, maxBytes); ok {
			w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
			io.CopyN(w, letters{}, n)
		}
	})
	mux.HandleFunc("GET /chunked/{count}", func(w http.ResponseWriter, r *http.Request) {
		if n, ok := number(w, r, "count", 0, maxBytes); ok {
			w.Header().Set("Trailer", "X-Count")
			w.WriteHeader(http.StatusOK)
			io.CopyN(w, letters{}, n)
			w.Header().Set("X-Count", strconv.FormatInt(n, 10))
		}
	})
	// One byte each so many milliseconds, for ever or until the client goes.
	mux.HandleFunc("GET /drip/{milliseconds}", func(w http.ResponseWriter, r *http.Request) {
		n, ok := number(w, r, "milliseconds", 1, 10_000)
		if !ok {
			return
		}
		tick := time.NewTicker(time.Duration(n) * time.Millisecond)
		defer tick.Stop()
		for {
			if _, err := io.WriteString(w, "."); err != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
	})
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Content-Type", "application/octet-stream")
		io.Copy(w, io.LimitReader(r.Body, maxBytes))
	})
	mux.HandleFunc("POST /sum", func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		n, err := io.Copy(sum, io.LimitReader(r.Body, maxBytes))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		writeJSON(w, map[string]any{"bytes": n, "sha256": hex.EncodeToString(sum.Sum(nil))})
	})
	return s.only(mux)
}

// only lets a website answer for its own names; the hostile one answers for all.
func (s *site) only(next http.Handler) http.Handler {
	if s.kind != website {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Hostile", "yes")
			next.ServeHTTP(w, r)
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := strings.ToLower(r.Host)
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		for _, n := range s.names {
			if n == host {
				next.ServeHTTP(w, r)
				return
			}
		}
		http.Error(w, fmt.Sprintf("%q does not live here", r.Host), http.StatusMisdirectedRequest)
	})
}

func number(w http.ResponseWriter, r *http.Request, name string, least, most int64) (int64, bool) {
	n, err := strconv.ParseInt(r.PathValue(name), 10, 64)
	if err != nil || n < least || n > most {
		http.Error(w, fmt.Sprintf("%s must be %d to %d", name, least, most), http.StatusBadRequest)
		return 0, false
	}
	return n, true
}

// letters is the alphabet for ever, in rows of 64 bytes.
type letters struct{}

const row = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-\n"

func (letters) Read(b []byte) (int, error) {
	n := 0
	for n < len(b) {
		n += copy(b[n:], row)
	}
	if n > len(row) {
		n -= n % len(row) // so that the next read begins a row
	}
	return n, nil
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	json.NewEncoder(w).Encode(v)
}

// books answers as the books service does, for the one book that it has.
func books(w http.ResponseWriter, r *http.Request) {
	type identifier struct {
		Type       string `json:"type"`
		Identifier string `json:"identifier"`
	}
	type volumeInfo struct {
		Title               string       `json:"title"`
		Authors             []string     `json:"authors"`
		Publisher           string       `json:"publisher"`
		PublishedDate       string       `json:"publishedDate"`
		IndustryIdentifiers []identifier `json:"industryIdentifiers"`
		PageCount           int          `json:"pageCount"`
		PrintType           string       `json:"printType"`
		Language            string       `json:"language"`
	}
	type volume struct {
		Kind string     `json:"kind"`
		ID   string     `json:"id"`
		Info volumeInfo `json:"volumeInfo"`
	}
	answer := struct {
		Kind  string   `json:"kind"`
		Total int      `json:"totalItems"`
		Items []volume `json:"items,omitempty"`
	}{Kind: "books#volumes"}
	if q := r.URL.Query().Get("q"); q == "isbn:0486424618" || q == "isbn:9780486424613" {
		answer.Total = 1
		answer.Items = []volume{{Kind: "books#volume", ID: "simnet0000001", Info: volumeInfo{
			Title: "The Comedy of Errors", Authors: []string{"William Shakespeare"},
			Publisher: "Courier Corporation", PublishedDate: "2002-01-01",
			IndustryIdentifiers: []identifier{{"ISBN_10", "0486424618"}, {"ISBN_13", "9780486424613"}},
			PageCount:           64, PrintType: "BOOK", Language: "en",
		}}}
	}
	writeJSON(w, answer)
}
