package simnet

import (
	"sync"
	"time"
)

// Record is one thing that a server of the internet saw.
type Record struct {
	Time   time.Time `json:"time"`
	Kind   Kind      `json:"kind"`
	Server string    `json:"server"` // the first name of the site, or its address where it has none
	Local  string    `json:"local"`  // address and port that was reached
	Peer   string    `json:"peer"`

	// Of a handshake, and of a request inside TLS.
	SNI        string `json:"sni,omitempty"`
	TLSVersion string `json:"tlsVersion,omitempty"` // "TLS 1.3"
	ALPN       string `json:"alpn,omitempty"`
	Error      string `json:"error,omitempty"` // why the handshake failed

	// Of a request.
	Host   string `json:"host,omitempty"`
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"` // with the query
	Proto  string `json:"proto,omitempty"`

	// Of a question: "www.example.com A".
	Question string `json:"question,omitempty"`
}

// Kind is what a Record is of.
type Kind string

// The kinds of records.
const (
	Connection Kind = "connection" // TCP was accepted
	Handshake  Kind = "handshake"  // TLS was done, or failed
	Request    Kind = "request"    // HTTP
	Question   Kind = "question"   // DNS
)

// maxRecords is how many records are kept; the oldest go first.
const maxRecords = 20_000

// log keeps the newest records. The zero value is ready.
type log struct {
	mu      sync.Mutex
	records []Record
}

func (l *log) add(r Record) {
	r.Time = time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.records) == maxRecords {
		l.records = append(l.records[:0], l.records[maxRecords/2:]...)
	}
	l.records = append(l.records, r)
}

func (l *log) all() []Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Record{}, l.records...)
}

func (l *log) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = nil
}
