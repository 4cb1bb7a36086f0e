package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sluice.dev/sluice/internal/record"
)

// Format is the version of the schema of a report's lines. A change after which an
// older reader would be wrong is another version.
const Format = 1

// Start is the first line of a report.
type Start struct {
	Format       int       `json:"format"`                 // version of this schema: 1
	Kind         string    `json:"kind"`                   // "start"
	Time         time.Time `json:"time"`                   // when the command was started
	Sluice       string    `json:"sluice"`                 // version of Sluice
	Workload     string    `json:"workload"`               // the instance under which flows list the command
	Command      []string  `json:"command"`                // the command and its arguments
	Level        string    `json:"level"`                  // the level at which the rules are enforced: sandbox
	Lowered      []string  `json:"lowered,omitempty"`      // what of the level does not hold, a sentence each: this machine does not give it, or a flag gave it up
	SharedCgroup string    `json:"sharedCgroup,omitempty"` // why the command has no cgroup of its own; what it may do to those of others is the same without
}

// Flow is the line of one connection, or of one HTTP request, once it has ended.
type Flow struct {
	Format      int           `json:"format"`              // version of this schema: 1
	Kind        string        `json:"kind"`                // "flow"
	ID          record.ID     `json:"id"`                  // the id that sluice why takes
	Time        time.Time     `json:"time"`                // when it began
	Duration    time.Duration `json:"durationNs"`          // how long it took, in nanoseconds
	Workload    string        `json:"workload"`            // the instance of the workload
	Outcome     Outcome       `json:"outcome"`             // allowed, audited, denied, not-reached, client-left or undecided
	Destination string        `json:"destination"`         // where to, HOST:PORT as --allow takes it
	Address     string        `json:"address,omitempty"`   // the address that was connected to or tried; inside the mesh, the workload; behind --via-proxy, the proxy
	Reason      string        `json:"reason,omitempty"`    // the code of a denial or a failure, or of what only audit let pass
	Text        string        `json:"text,omitempty"`      // the reason as a sentence
	Rule        string        `json:"rule,omitempty"`      // the rule that allows it; inside the mesh, the route rule
	Direction   string        `json:"direction,omitempty"` // egress, mesh or ingress
	Transport   string        `json:"transport"`           // tcp or udp
	Port        uint16        `json:"port"`                // the port that was dialled
	Dialled     string        `json:"dialled,omitempty"`   // the name or the address that was dialled
	SNI         string        `json:"sni,omitempty"`       // the server name of its TLS
	Host        string        `json:"host,omitempty"`      // the Host of the request
	Method      string        `json:"method,omitempty"`    // the method of the request
	Path        string        `json:"path,omitempty"`      // the path of the request, without its query
	Upgrade     string        `json:"upgrade,omitempty"`   // the protocol that the request asked to change to
	Question    string        `json:"question,omitempty"`  // the type that DNS was asked for, where this is a question: SRV
	Protocol    string        `json:"protocol,omitempty"`  // what its first bytes were: http, tls or opaque
	Treatment   string        `json:"treatment,omitempty"` // forward, originate, passthrough, relay or mesh
	Status      int           `json:"status,omitempty"`    // the HTTP status that the command was answered with
	Sent        int64         `json:"sent"`                // bytes from the command
	Received    int64         `json:"received"`            // bytes to the command
	Snapshot    string        `json:"snapshot,omitempty"`  // the version of the rules that decided
}

// End is the last line of a report. One without it was not finished.
type End struct {
	Format       int       `json:"format"` // version of this schema: 1
	Kind         string    `json:"kind"`   // "end"
	Time         time.Time `json:"time"`   // when the command had ended
	Exit         int       `json:"exit"`   // the command's own exit status
	Counts                 // how many flows had each outcome, those without a line too
	Dropped      uint64    `json:"dropped"`                // flows without a line, because they came faster than they were written
	MemoryKills  uint64    `json:"memoryKills,omitempty"`  // processes that were killed because the limit of --memory was reached
	ForksRefused uint64    `json:"forksRefused,omitempty"` // processes and threads that were not started because the limit of --pids was reached
}

// FlowOf makes the line of a record.
func FlowOf(r *record.Record) Flow {
	f := Flow{
		Format: Format, Kind: "flow", ID: r.ID, Time: r.Start, Duration: r.Duration, Workload: r.Workload,
		Outcome: OutcomeOf(r), Destination: Destination(r), Address: r.Upstream, Reason: string(r.Reason), Rule: r.Rule,
		Direction: r.Direction.String(), Transport: r.Transport.String(), Port: r.Port, Dialled: r.Dialled, SNI: r.SNI,
		Host: r.Host, Method: r.Method, Path: r.Path, Upgrade: r.Upgrade, Question: r.Question, Protocol: r.Sniffed.String(),
		Treatment: r.Treatment.String(), Status: r.Status, Sent: r.Sent, Received: r.Received, Snapshot: r.Snapshot,
	}
	if r.Reason != "" {
		f.Text = Text(r)
	}
	return f
}

// File is a report, or another file about a command, that is being written. Its lines
// are whole whenever the process ends: each is one write.
type File struct {
	what    string // it is called in errors: "report"
	file    *os.File
	name    string // as the user says it
	path    string // of a regular file; "" for a pipe or a device
	written int64
}

// Create opens a file about a command; what is what errors call it. A regular file that
// is there is replaced by a new one, so that nobody who had it open, or knows it by
// another name, writes into ours.
func Create(what, name string) (*File, error) {
	path, err := filepath.Abs(name)
	if err != nil {
		return nil, fmt.Errorf("open the %s %s: %w", what, name, err)
	}
	for _, folder := range []string{"/dev/", "/proc/"} {
		if strings.HasPrefix(path, folder) { // /dev/stdout may be a file that the shell opened
			return open(what, name, path)
		}
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("open the %s %s: %w", what, name, err)
	case info.Mode().IsRegular():
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("replace the %s %s: %w", what, name, err)
		}
	case info.IsDir():
		return nil, fmt.Errorf("open the %s %s: it is a folder", what, name)
	default:
		return open(what, name, path)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // it holds the command, and what that asked for
	if err != nil {
		return nil, fmt.Errorf("open the %s %s: %w", what, name, err)
	}
	return &File{what: what, file: file, name: name, path: path}, nil
}

// open opens a pipe or a device as it is.
func open(what, name, path string) (*File, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, fmt.Errorf("open the %s %s: %w", what, name, err)
	}
	return &File{what: what, file: file, name: name}, nil
}

// Path is the file that the command must not reach; "" where there is none.
func (f *File) Path() string { return f.path }

// Write appends a line: a Start, a Flow or an End.
func (f *File) Write(line any) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(line); err != nil {
		return fmt.Errorf("write the %s %s: %w", f.what, f.name, err)
	}
	return f.WriteText(text.Bytes())
}

// WriteText appends text, whole or not at all.
func (f *File) WriteText(text []byte) error {
	n, err := f.file.Write(text)
	if err != nil {
		if f.path != "" && n > 0 { // half a line is none
			f.file.Truncate(f.written)
		}
		return fmt.Errorf("write the %s %s: %w", f.what, f.name, err)
	}
	f.written += int64(n)
	return nil
}

// Close closes the file, and says whether it still is what stands there under its
// name.
func (f *File) Close() error {
	info, err := f.file.Stat()
	if err := errors.Join(err, f.file.Close()); err != nil {
		return fmt.Errorf("close the %s %s: %w", f.what, f.name, err)
	}
	if f.path == "" {
		return nil
	}
	there, err := os.Lstat(f.path)
	if err != nil || !os.SameFile(info, there) {
		return fmt.Errorf("the %s %s was moved away or replaced while the command ran: what stands there now is not the %s", f.what, f.name, f.what)
	}
	return nil
}
