package sandbox

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// MaxListen bounds the ports of Config.Listen.
const MaxListen = 64

// Unready is a port of Config.Listen that takes no connections now.
type Unready struct {
	Port  uint16    `json:"port"`
	Since time.Time `json:"since"`
	// Why is what a Check found; "" where nobody listens.
	Why string `json:"why,omitempty"`
}

// Times of looking. One look is a system call or two, and the pause grows with the time
// for which nothing has changed: a command that starts fast is seen fast, and one that
// takes minutes is not asked after all the time.
const (
	lookSoonest = 20 * time.Millisecond
	lookLatest  = time.Second
	lookShare   = 8 // of the time since the last change is the pause

	askSoonest = 250 * time.Millisecond // between two checks of a port that is not ready
	askEvery   = 5 * time.Second        // between two checks of one that is
	askFailed  = 3                      // checks that fail in a row make it not ready

	tellBurst = 5 // reports that may follow upon one another, and then one in tellEvery
	tellEvery = time.Second
)

// portWatch finds out which ports of the command are ready: by looking who listens, and
// for ports with a Check by asking. It never connects to a port that has none.
type portWatch struct {
	// listens returns where a connection of the proxy to a port would be taken.
	listens func(port uint16) (at netip.AddrPort, listens bool)
	// ask makes a check, and says why it failed; "" where it did not.
	ask func(ctx context.Context, at netip.AddrPort, path string) (why string)
	// tell reports all ports that are not ready. An error ends the watch.
	tell func([]Unready) error

	mu      sync.Mutex
	unready map[uint16]Unready
	changed chan struct{} // holds one value while tell does not know of a change
}

// run watches until ctx ends or nobody wants to know any more. Whoever is told takes
// every port for not listening until then.
func (w *portWatch) run(ctx context.Context, ports []uint16, checks []Check) {
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel()
	w.unready, w.changed = make(map[uint16]Unready, len(ports)), make(chan struct{}, 1)
	now := time.Now()
	for _, port := range ports {
		w.unready[port] = unreadyAt(now, port, "")
	}
	told := w.list()
	for _, port := range ports {
		path := ""
		for _, check := range checks {
			if check.Port == port {
				path = check.Path
			}
		}
		following.Go(func() { w.follow(ctx, port, path) })
	}
	pace := rate.NewLimiter(rate.Every(tellEvery), tellBurst)
	for {
		select {
		case <-w.changed:
		case <-ctx.Done():
			return
		}
		if pace.Wait(ctx) != nil {
			return
		}
		list := w.list()
		if slices.Equal(list, told) {
			continue // it is again what it was
		}
		if w.tell(list) != nil {
			return
		}
		told = list
	}
}

func unreadyAt(now time.Time, port uint16, why string) Unready {
	return Unready{Port: port, Since: now.UTC().Truncate(time.Millisecond), Why: why}
}

// list returns the ports that are not ready, sorted.
func (w *portWatch) list() []Unready {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := make([]Unready, 0, len(w.unready))
	for _, u := range w.unready {
		list = append(list, u)
	}
	slices.SortFunc(list, func(a, b Unready) int { return int(a.Port) - int(b.Port) })
	return list
}

// follow watches one port; path is that of its check, "" where it has none.
func (w *portWatch) follow(ctx context.Context, port uint16, path string) {
	var (
		ready  bool
		why    string        // it is not, "" for nobody listens
		since  = time.Now()  // when it became ready, or not ready for such a reason
		asked  time.Time     // when it was checked last
		failed int           // checks since the last one that did not
		pause  time.Duration // until the next look
	)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		isReady, whyNot := false, ""
		at, listening := w.listens(port)
		switch {
		case !listening:
			failed = 0
		case path == "":
			isReady = true
		case ready && failed == 0 && time.Since(asked) < askEvery:
			isReady = true // as of a moment ago
		default:
			whyNot = w.ask(ctx, at, path)
			asked = time.Now()
			if whyNot == "" {
				isReady, failed = true, 0
				break
			}
			failed++
			isReady = ready && failed < askFailed
		}
		if isReady {
			whyNot = ""
		}
		if now := time.Now(); isReady != ready || whyNot != why {
			if isReady != ready || (why == "") != (whyNot == "") {
				since = now
			}
			ready, why = isReady, whyNot
			w.note(port, ready, since, why)
		}
		switch {
		case ready:
			pause = lookLatest
		case listening:
			pause = min(max(time.Since(since)/lookShare, askSoonest), lookLatest)
		default:
			pause = min(max(time.Since(since)/lookShare, lookSoonest), lookLatest)
		}
		timer.Reset(pause)
	}
}

// note keeps what was found of a port, and wakes whoever reports it.
func (w *portWatch) note(port uint16, ready bool, since time.Time, why string) {
	w.mu.Lock()
	if ready {
		delete(w.unready, port)
	} else {
		w.unready[port] = unreadyAt(since, port, why)
	}
	w.mu.Unlock()
	wake(w.changed)
}
