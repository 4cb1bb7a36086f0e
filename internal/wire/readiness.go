package wire

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/time/rate"
)

// Unready is a port on which a workload serves and takes no connections now. Who is not
// among the Unready of a workload is ready: a workload that never says anything of its
// ports takes calls on all of them.
type Unready struct {
	Port  uint16    `json:"port"`
	Since time.Time `json:"since"`
	// Why is what --ready found; "" where nobody listens on the port.
	Why string `json:"why,omitempty"`
}

// MaxUnreadyWhy bounds Why, in bytes.
const MaxUnreadyWhy = 128

// A change of readiness makes a snapshot for every workload of the mesh. So of one
// workload so many may follow upon one another, and then one in such a time; what
// changed in between is said with it. Whoever hands changes on keeps to it.
const (
	ReadinessBurst = 5
	ReadinessEvery = time.Second
)

// NewReadinessPace returns the pace of one workload's changes.
func NewReadinessPace() *rate.Limiter {
	return rate.NewLimiter(rate.Every(ReadinessEvery), ReadinessBurst)
}

// Text says it for people: "not listening on 8000 for 12 s".
func (u *Unready) Text(now time.Time) string {
	lasting := max(now.Sub(u.Since), 0)
	if u.Why != "" {
		return fmt.Sprintf("not ready on %d for %s: %s", u.Port, lastingText(lasting), u.Why)
	}
	return fmt.Sprintf("not listening on %d for %s", u.Port, lastingText(lasting))
}

// lastingText is a duration in its one or two largest units.
func lastingText(d time.Duration) string {
	switch seconds := int(d.Seconds()); {
	case seconds < 60:
		return fmt.Sprintf("%d s", seconds)
	case seconds < 3600:
		return fmt.Sprintf("%d min %d s", seconds/60, seconds%60)
	default:
		return fmt.Sprintf("%d h %d min", seconds/3600, seconds%3600/60)
	}
}

// UnreadyOn returns the entry of a port, nil where the port is ready.
func UnreadyOn(all []Unready, port uint16) *Unready {
	for i := range all {
		if all[i].Port == port {
			return &all[i]
		}
	}
	return nil
}

// NormalizeUnready checks what is said of a workload that serves on these ports, and
// returns it sorted, sharing nothing with what was given.
func NormalizeUnready(all []Unready, ports []uint16) ([]Unready, error) {
	if len(all) == 0 {
		return nil, nil
	}
	if len(all) > MaxPorts {
		return nil, fmt.Errorf("%d ports that are not ready are more than %d", len(all), MaxPorts)
	}
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b Unready) int { return int(a.Port) - int(b.Port) })
	for i := range all {
		u := &all[i]
		u.Since = u.Since.UTC()
		switch {
		case !slices.Contains(ports, u.Port):
			return nil, fmt.Errorf("port %d is said not to be ready and is not one on which the workload serves", u.Port)
		case i > 0 && all[i-1].Port == u.Port:
			return nil, fmt.Errorf("port %d is said not to be ready more than once", u.Port)
		case len(u.Why) > MaxUnreadyWhy:
			return nil, fmt.Errorf("why port %d is not ready has %d bytes, at most %d are allowed", u.Port, len(u.Why), MaxUnreadyWhy)
		}
		for _, c := range []byte(u.Why) {
			if c < ' ' || c >= 0x7f {
				return nil, errors.New("why a port is not ready is not printable ASCII")
			}
		}
	}
	return all, nil
}

// SameUnready reports whether two lists, both normalized, say the same.
func SameUnready(a, b []Unready) bool {
	return slices.EqualFunc(a, b, func(a, b Unready) bool {
		return a.Port == b.Port && a.Why == b.Why && a.Since.Equal(b.Since)
	})
}
