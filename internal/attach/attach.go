// Package attach hands a sandbox to a resident proxy: its capture sockets and what it
// says of its workload, then which of its ports are ready, go over attach.sock, what
// became of its connections comes back, and the end of that connection, from either side, ends the attachment.
// `sluice run` is the client, the proxy the server. It never keeps a descriptor of a
// hello that it refused.
package attach

import (
	"encoding/json"
	"fmt"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/format"
	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/report"
	"sluice.dev/sluice/internal/wire"
)

// Hello is what the client says of its workload. Instance and Proxy of it are
// the server's to give and stay empty.
type Hello struct {
	wire.Workload
	// Each asks for each record as it is closed; the sums come at the end for all.
	Each bool `json:"each,omitempty"`
}

// The formats of both messages that this build writes. What each side says after
// its own is of the same format.
//
//	1: the first
//	2: a hello asks for records; records and sums follow the welcome
//	3: a hello says what is spoken on its ports, and lists those that are not ready;
//	   changes of these follow it
//	4: one descriptor more, for what is asked about connects
const (
	helloFormat   = 4
	welcomeFormat = 2
)

// What is read of both messages.
var (
	hellos   = format.Kind{Name: "the hello of a sandbox", Oldest: 1, Newest: helloFormat, Reader: "sluice-proxy"}
	welcomes = format.Kind{Name: "the welcome of the proxy", Oldest: 2, Newest: welcomeFormat, Reader: "this sluice"}
)

// hello and welcome are the messages, each with its format.
type (
	hello struct {
		Format int `json:"format"`
		Hello
	}
	welcome struct {
		Format int `json:"format"`
		Welcome
	}
)

// decodeHello reads a hello and checks its bounds. A member that is not known is
// an error: what a client says of its workload is never dropped.
func decodeHello(b []byte) (Hello, error) {
	if err := hellos.CheckJSON(b); err != nil {
		return Hello{}, err
	}
	var said hello
	if err := wire.DecodeStrict(b, &said); err != nil {
		return Hello{}, fmt.Errorf("read hello: %w", err)
	}
	if err := validate(&said.Hello); err != nil {
		return Hello{}, fmt.Errorf("hello: %w", err)
	}
	return said.Hello, nil
}

// decodeWelcome reads a welcome. A refusal is one in every format: a later proxy may
// say with it that we are too old.
func decodeWelcome(b []byte) (Welcome, error) {
	var said welcome
	err := json.Unmarshal(b, &said)
	if said.Error != "" {
		return Welcome{}, &RefusedError{said.Error}
	}
	if unknown := welcomes.CheckJSON(b); unknown != nil {
		err = unknown
	}
	if err != nil {
		return Welcome{}, fmt.Errorf("read welcome: %w", err)
	}
	return said.Welcome, nil
}

// Welcome is the server's answer. The command may start after it.
type Welcome struct {
	Instance string   `json:"instance,omitempty"` // "details-v2/1"
	Search   []string `json:"search,omitempty"`   // for the sandbox's resolv.conf
	Error    string   `json:"error,omitempty"`    // why the sandbox is not served
}

// word is what the client says after its hello, one thing at a time.
type word struct {
	// Ports is which of the workload's ports are not ready from now on.
	Ports *ports `json:"ports,omitempty"`
	// Finish is the last: the command has ended, and what became of its connections is
	// asked for.
	Finish bool `json:"finish,omitempty"`
}

type ports struct {
	Unready []wire.Unready `json:"unready"`
}

// news is what the server says after its welcome: a record that was closed, or, at
// the end, the entries of the summary one by one and then the sum.
type news struct {
	Record *record.Record `json:"record,omitempty"`
	Entry  *report.Entry  `json:"entry,omitempty"`
	Sum    *sum           `json:"sum,omitempty"`
}

// sum is the server's last word.
type sum struct {
	Counts  report.Counts `json:"counts"`
	More    report.Counts `json:"more"`
	Dropped uint64        `json:"dropped,omitempty"` // records that were not sent one by one
}

// RefusedError is what Attach returns where the server said no.
type RefusedError struct{ Text string }

func (e *RefusedError) Error() string { return "the proxy refused the sandbox: " + e.Text }

// Bounds of a hello; a message as a whole is at most 16 KiB.
const (
	MaxFiles  = capture.MaxFiles
	MaxLabels = 64
	MaxPorts  = 64
	maxWord   = 253 // of a name, label or account
)

func validate(h *Hello) error {
	if h.Instance != "" || h.Proxy != "" {
		return fmt.Errorf("instance and proxy are given by the server: leave them empty")
	}
	if len(h.Labels) > MaxLabels {
		return fmt.Errorf("%d labels, at most %d are allowed", len(h.Labels), MaxLabels)
	}
	if len(h.Ports) > MaxPorts {
		return fmt.Errorf("%d ports, at most %d are allowed", len(h.Ports), MaxPorts)
	}
	if unready, err := wire.NormalizeUnready(h.Unready, h.Ports); err != nil {
		return err
	} else {
		h.Unready = unready
	}
	words := []string{h.Service, h.Version, h.Namespace, h.Account, h.Level}
	for name, value := range h.Labels {
		words = append(words, name, value)
	}
	for _, word := range words {
		if len(word) > maxWord {
			return fmt.Errorf("%.20q…: %d bytes, at most %d are allowed", word, len(word), maxWord)
		}
	}
	return nil
}
