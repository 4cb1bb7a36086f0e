package route

import (
	"errors"
	"fmt"
	"time"

	"sluice.dev/sluice/internal/httpfield"
	"sluice.dev/sluice/internal/httppath"
	"sluice.dev/sluice/internal/names"
)

// Bounds of what a rule does with a request.
const (
	MaxAppended      = 32        // headers that one rule appends
	MaxAppendedBytes = 4 << 10   // of their names and values
	MaxDelay         = time.Hour // of a fault
	MaxTimeout       = time.Hour // of a request, and of an attempt
	MaxAttempts      = 32        // of a request beside the first, by a rule or by a header
)

// DefaultTimeout is how long a request inside the mesh waits for the head of its answer, where
// no rule says otherwise: that of Istio 0.5.
const DefaultTimeout = 15 * time.Second

// Share is how many of a million requests something is done with: percent with four
// places.
type Share uint32

// Whole is the Share of every request.
const Whole Share = 1_000_000

// takes reports whether the random number r falls into the share. The bias over 64 random
// bits is below 2^-44.
func (s Share) takes(r uint64) bool { return Share(r%uint64(Whole)) < s }

// Redirect answers a request with another address. A part that is "" stays as it was
// asked.
type Redirect struct {
	URI       string `json:"uri,omitempty"`
	Authority string `json:"authority,omitempty"`
}

// Rewrite changes a request before it is sent on. A part that is "" stays.
type Rewrite struct {
	URI       string `json:"uri,omitempty"` // in place of the path, or of the prefix that was matched
	Authority string `json:"authority,omitempty"`
}

// Header is one header that is appended to a request.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Delay holds up a share of the requests.
type Delay struct {
	Share Share         `json:"share"`
	For   time.Duration `json:"for"`
}

// Abort answers a share of the requests with a status.
type Abort struct {
	Share  Share `json:"share"`
	Status int   `json:"status"`
}

// Actions is what a rule does with a request beside choosing where it goes.
type Actions struct {
	Redirect *Redirect `json:"redirect,omitempty"` // in place of going anywhere
	Rewrite  *Rewrite  `json:"rewrite,omitempty"`
	Append   []Header  `json:"append,omitempty"`
	Delay    *Delay    `json:"delay,omitempty"`
	Abort    *Abort    `json:"abort,omitempty"`

	// Timeout is from a request's end to its answer's head, all attempts included; 0: the
	// default of the way that it goes.
	Timeout time.Duration `json:"timeout,omitempty"`
	Retries *Retries      `json:"retries,omitempty"`

	Mirror    *Mirror `json:"mirror,omitempty"` // gets a copy of each request
	CORS      *CORS   `json:"cors,omitempty"`
	WebSocket bool    `json:"webSocket,omitempty"` // a request may change to it
}

// Mirror is who gets a copy of a request: an endpoint of Service that carries all Labels, or
// Host, outside the mesh. Exactly one of the two is set.
type Mirror struct {
	Service names.Name        `json:"service,omitzero"`
	Host    names.Name        `json:"host,omitzero"`
	Labels  map[string]string `json:"labels,omitempty"`
}

// Retries is how a request that failed is sent again.
type Retries struct {
	Attempts int           `json:"attempts"`              // beside the first
	Each     time.Duration `json:"eachTimeout,omitempty"` // of one attempt; 0: Timeout alone
}

// check refuses what a proxy could not do, so that a whole table is refused before a
// request meets it.
func (a *Actions) check() error {
	if r := a.Redirect; r != nil {
		if err := checkAddress("redirect", r.URI, r.Authority); err != nil {
			return err
		}
	}
	if r := a.Rewrite; r != nil {
		if err := httppath.CheckRewrite(r.URI); err != nil {
			return fmt.Errorf("rewrite: %w", err)
		}
		if err := checkAddress("rewrite", r.URI, r.Authority); err != nil {
			return err
		}
	}
	if err := checkAppended(a.Append); err != nil {
		return err
	}
	if d := a.Delay; d != nil {
		switch {
		case d.Share > Whole:
			return fmt.Errorf("delay of %d in a million requests", d.Share)
		case d.For <= 0 || d.For > MaxDelay:
			return fmt.Errorf("delay of %v: more than 0 and at most %v", d.For, MaxDelay)
		}
	}
	if a.Timeout < 0 || a.Timeout > MaxTimeout {
		return fmt.Errorf("time-out of %v: at most %v", a.Timeout, MaxTimeout)
	}
	if r := a.Retries; r != nil && (r.Attempts < 0 || r.Attempts > MaxAttempts || r.Each < 0 || r.Each > MaxTimeout) {
		return fmt.Errorf("%d attempts of %v: at most %d of at most %v, and neither is negative", r.Attempts, r.Each, MaxAttempts, MaxTimeout)
	}
	if m := a.Mirror; m != nil {
		if m.Service.IsZero() == m.Host.IsZero() {
			return errors.New("a mirror is a service or a host")
		}
		if !m.Host.IsZero() && len(m.Labels) > 0 {
			return errLabels
		}
	}
	if a.CORS != nil {
		if err := a.CORS.check(); err != nil {
			return err
		}
	}
	if b := a.Abort; b != nil {
		if b.Share > Whole {
			return fmt.Errorf("abort of %d in a million requests", b.Share)
		}
		if err := CheckStatus(b.Status); err != nil {
			return err
		}
	}
	return nil
}

func checkAddress(what, uri, authority string) error {
	if uri == "" && authority == "" {
		return fmt.Errorf("%s without path and host", what)
	}
	if uri != "" {
		if err := httppath.CheckURI(uri); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	if authority != "" {
		if err := httpfield.CheckAuthority(authority); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

// CheckStatus refuses what cannot be answered in an upstream's place.
func CheckStatus(status int) error {
	if status < 200 || status > 599 {
		return fmt.Errorf("an abort with status %d cannot be answered: use 200 to 599", status)
	}
	return nil
}

var errLabels = errors.New("a host outside the mesh has no labels")

var errAppended = errors.New("more headers to append than a request may get")

func checkAppended(headers []Header) error {
	size := 0
	for i := range headers {
		h := &headers[i]
		if err := httpfield.CheckAppended(h.Name, h.Value); err != nil {
			return err
		}
		size += len(h.Name) + len(h.Value)
	}
	if len(headers) > MaxAppended || size > MaxAppendedBytes {
		return fmt.Errorf("%w: at most %d of together %d bytes", errAppended, MaxAppended, MaxAppendedBytes)
	}
	return nil
}
