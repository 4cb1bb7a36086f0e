package record

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// MaxFollowers is how many may follow one ring at a time.
	MaxFollowers = 64
	// MaxFollowBuffer bounds what one follower may leave unread, in flows.
	MaxFollowBuffer = RingSize
)

// ErrTooManyFollowers says that MaxFollowers follow already.
var ErrTooManyFollowers = errors.New("too many followers of flows")

// Follower receives each flow that is added after it began to follow. One that
// reads too slowly loses flows, and Dropped counts them.
type Follower struct {
	ctx     context.Context
	flows   chan Record
	dropped atomic.Uint64
}

// Follow hands the flows added from now on to a new Follower, until ctx ends. At
// most buffer flows (1 to MaxFollowBuffer) wait for it.
func (r *Ring) Follow(ctx context.Context, buffer int) (*Follower, error) {
	if buffer < 1 || buffer > MaxFollowBuffer {
		return nil, fmt.Errorf("follow flows: a buffer of %d is not within 1 to %d", buffer, MaxFollowBuffer)
	}
	f := &Follower{ctx: ctx, flows: make(chan Record, buffer)}
	if err := r.followers.add(f); err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { r.followers.remove(f) })
	return f, nil
}

// Next waits for the next flow. Once the context of Follow has ended it hands out
// what was left unread, then returns that context's error.
func (f *Follower) Next() (Record, error) {
	select {
	case got := <-f.flows:
		return got, nil
	default:
	}
	select {
	case got := <-f.flows:
		return got, nil
	case <-f.ctx.Done():
		return Record{}, f.ctx.Err()
	}
}

// Dropped returns how many flows were lost because Next was not called in time.
func (f *Follower) Dropped() uint64 { return f.dropped.Load() }

// followers is a set that is read on each Add and changed seldom: readers load
// one pointer and take no lock.
type followers struct {
	mu  sync.Mutex // for changes
	set atomic.Pointer[[]*Follower]

	dropped atomic.Uint64 // by all that ever followed
}

func (s *followers) send(flow *Record) {
	set := s.set.Load()
	if set == nil {
		return
	}
	for _, f := range *set {
		select {
		case f.flows <- *flow:
		default:
			f.dropped.Add(1)
			s.dropped.Add(1)
		}
	}
}

func (s *followers) add(f *Follower) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var set []*Follower
	if old := s.set.Load(); old != nil {
		set = slices.Clone(*old)
	}
	if len(set) >= MaxFollowers {
		return ErrTooManyFollowers
	}
	set = append(set, f)
	s.set.Store(&set)
	return nil
}

func (s *followers) remove(f *Follower) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.set.Load()
	if old == nil {
		return
	}
	set := slices.DeleteFunc(slices.Clone(*old), func(other *Follower) bool { return other == f })
	if len(set) == 0 {
		s.set.Store(nil)
		return
	}
	s.set.Store(&set)
}
