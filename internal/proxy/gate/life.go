package gate

import (
	"context"
	"sync"
	"time"
)

// life is the context of all that is done for one connection. It is ended by its Conn
// alone, and the gate ends all of them when it closes: so it is registered with no parent,
// which would cost more memory than all else that an idle connection needs here. It
// implements the AfterFunc that package context looks for.
type life struct {
	context.Context // for its values

	mu    sync.Mutex
	ended bool
	done  chan struct{} // nil before somebody asked for it
	after []*afterwards
}

type afterwards struct{ do func() }

func (l *life) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	l.ended = true
	if l.done != nil {
		close(l.done)
	}
	for _, a := range l.after {
		go a.do()
	}
	l.after = nil
}

// Deadline implements context.Context: there is none.
func (l *life) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements context.Context.
func (l *life) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done == nil {
		if l.done = make(chan struct{}); l.ended {
			close(l.done)
		}
	}
	return l.done
}

// Err implements context.Context.
func (l *life) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return context.Canceled
	}
	return nil
}

// AfterFunc has f run on a goroutine of its own once the life has ended, unless stop is
// called before, which reports whether it was.
func (l *life) AfterFunc(f func()) (stop func() bool) {
	a := &afterwards{f}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		go f()
		return func() bool { return false }
	}
	l.after = append(l.after, a)
	return func() bool { return l.forget(a) }
}

func (l *life) forget(a *afterwards) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, o := range l.after {
		if o == a {
			last := len(l.after) - 1
			l.after[i], l.after[last] = l.after[last], nil
			l.after = l.after[:last]
			return true
		}
	}
	return false
}
