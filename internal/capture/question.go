package capture

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"sluice.dev/sluice/internal/format"
)

const (
	// MaxQuestions bounds how many connects of one workload are held back at a time. Those
	// beyond it begin at once, and what becomes of them shows later.
	MaxQuestions = 256
	// maxQuestionSize bounds a message of either side, in bytes.
	maxQuestionSize = 1 << 10
	// maxQuiet bounds the list of ports that are not asked about.
	maxQuiet = 16
)

// questionsFormat is the format of all messages of the channel that this build writes.
const questionsFormat = 1

var questions = format.Kind{Name: "what is asked about connects", Oldest: 1, Newest: questionsFormat}

// Connecting is a connection that has begun and is held back.
type Connecting struct {
	To   netip.AddrPort `json:"to"`
	From netip.AddrPort `json:"from"` // as the connection will come to whoever accepts it
}

// Answer says what becomes of a connection.
type Answer struct {
	// Errno is 0 where the connection goes on, and shows what becomes of it then. Else it
	// has ended with ECONNREFUSED, EHOSTUNREACH, ENETUNREACH or ETIMEDOUT.
	Errno syscall.Errno
	// Always says that connections to that address and port go on without a question
	// until the rules change.
	Always bool
}

// outcomes are the errors that a connect may be answered with.
var outcomes = []syscall.Errno{0, unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ETIMEDOUT}

// What goes over the channel. The proxy begins: until it has said which rules are in
// force, nothing is asked, so one that knows of no questions gets none.
type (
	// asked is from init.
	asked struct {
		Format int    `json:"format"`
		Number uint64 `json:"number"`
		Connecting
	}
	// told is from the proxy: an answer, or the rules that are in force from now on.
	told struct {
		Format int     `json:"format"`
		Number uint64  `json:"number,omitempty"` // of the question
		Errno  int     `json:"errno,omitempty"`
		Always bool    `json:"always,omitempty"`
		Rules  uint64  `json:"rules"` // by which it was answered: a number that grows
		InUse  *ruling `json:"inUse,omitempty"`
	}
	// ruling is what is to be known of new rules before the first question.
	ruling struct {
		Quiet []uint16 `json:"quiet,omitempty"` // ports that nothing is asked about
	}
)

func decodeAsked(b []byte) (asked, error) {
	var a asked
	if err := decodeMessage(b, &a, func() int { return a.Format }); err != nil {
		return asked{}, err
	}
	switch {
	case a.Number == 0:
		return asked{}, errors.New("a question without a number")
	case !a.To.IsValid() || !a.From.IsValid() || a.To.Addr().Zone() != "" || a.From.Addr().Zone() != "":
		return asked{}, fmt.Errorf("a question about %s from %s: not two addresses", a.To, a.From)
	case a.To.Addr().Is4() != a.From.Addr().Is4():
		return asked{}, fmt.Errorf("a question about %s from %s: not of one family", a.To, a.From)
	}
	return a, nil
}

func decodeTold(b []byte) (told, error) {
	var t told
	if err := decodeMessage(b, &t, func() int { return t.Format }); err != nil {
		return told{}, err
	}
	switch {
	case t.InUse != nil && len(t.InUse.Quiet) > maxQuiet:
		return told{}, fmt.Errorf("%d ports that nothing is asked about, at most %d are taken", len(t.InUse.Quiet), maxQuiet)
	case t.InUse == nil && t.Number == 0:
		return told{}, errors.New("an answer without a number")
	case !slices.Contains(outcomes, syscall.Errno(t.Errno)):
		return told{}, fmt.Errorf("an answer with error %d, which no connect has", t.Errno)
	}
	return t, nil
}

func decodeMessage(b []byte, into any, found func() int) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		if unknown := questions.CheckJSON(b); unknown != nil {
			err = unknown
		}
		return fmt.Errorf("read what is said about a connect: %w", err)
	}
	return questions.Check(found())
}

// receiveMessage reads one message into buffer, which is one byte longer than a message
// may be. Descriptors that come with it are closed by the kernel.
func receiveMessage(c *net.UnixConn, buffer *[maxQuestionSize + 1]byte) ([]byte, error) {
	n, err := c.Read(buffer[:])
	switch {
	case err != nil:
		return nil, err
	case n == 0:
		return nil, io.EOF
	case n > maxQuestionSize:
		return nil, fmt.Errorf("a message over %d bytes", maxQuestionSize)
	}
	return buffer[:n], nil
}
