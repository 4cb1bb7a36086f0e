// Package attach hands a sandbox to a resident proxy: its capture sockets and
// what it says of its workload go over attach.sock, and the end of that
// connection, from either side, ends the attachment. `sluice run` is the client,
// the proxy the server. It never keeps a descriptor of a hello that it refused.
package attach

import (
	"fmt"

	"sluice.dev/sluice/internal/capture"
	"sluice.dev/sluice/internal/wire"
)

// Hello is what the client says of its workload. Instance and Proxy of it are
// the server's to give and stay empty.
type Hello = wire.Workload

// Welcome is the server's answer. The command may start after it.
type Welcome struct {
	Instance string   `json:"instance,omitempty"` // "details-v2/1"
	Search   []string `json:"search,omitempty"`   // for the sandbox's resolv.conf
	Error    string   `json:"error,omitempty"`    // why the sandbox is not served
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
		return fmt.Errorf("instance and proxy are not the client's to say")
	}
	if len(h.Labels) > MaxLabels {
		return fmt.Errorf("%d labels, at most %d are taken", len(h.Labels), MaxLabels)
	}
	if len(h.Ports) > MaxPorts {
		return fmt.Errorf("%d ports, at most %d are taken", len(h.Ports), MaxPorts)
	}
	words := []string{h.Service, h.Version, h.Namespace, h.Account, h.Level}
	for name, value := range h.Labels {
		words = append(words, name, value)
	}
	for _, word := range words {
		if len(word) > maxWord {
			return fmt.Errorf("%.20q…: %d bytes, at most %d are taken", word, len(word), maxWord)
		}
	}
	return nil
}
