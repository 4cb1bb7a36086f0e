package flowstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
)

// state is what is known of the whole file, without reading it.
type state struct {
	Rows      int `json:"rows"`  // of all hours
	Flows     int `json:"flows"` // one by one
	FlowBytes int `json:"flowBytes"`

	// Lost is what is not there as it could be, since the file began.
	Folded    int64 `json:"folded"`
	NotKept   int64 `json:"notKept"`
	Forgotten int64 `json:"forgotten"` // the last hour that was forgotten before its time, since 1970
}

func (s *state) read(meta *bolt.Bucket) error {
	said := meta.Get(stateKey)
	if said == nil {
		return nil
	}
	if err := json.Unmarshal(said, s); err != nil {
		return fmt.Errorf("%w: its state is not valid: %w", errDamaged, err)
	}
	if s.Rows < 0 || s.Flows < 0 || s.FlowBytes < 0 {
		return fmt.Errorf("%w: its state is not valid: a number is negative", errDamaged)
	}
	return nil
}

func (s *state) write(meta *bolt.Bucket) error {
	said, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return meta.Put(stateKey, said)
}

// hourOf is the hour of a time, since 1970.
func hourOf(at time.Time) int64 { return at.Unix() / 3600 }

// prune forgets what is older than is kept, and the oldest of what is too much; used is how
// many bytes were used before.
func (s *Store) prune(tx *bolt.Tx, now time.Time, state *state, used int) error {
	hours := tx.Bucket(hoursBucket)
	oldest, current := hourOf(now.Add(-KeepSums)), hourOf(now)
	for cursor, tight := hours.Cursor(), used > s.limits.used; ; {
		key, _ := cursor.First()
		if key == nil {
			break
		}
		at := hourFrom(key)
		switch early := at >= oldest; {
		case !early:
		case state.Rows > s.limits.rows:
			state.Forgotten = max(state.Forgotten, at)
		case tight && at < current: // how much that frees is seen by the next change
			state.Forgotten, tight = max(state.Forgotten, at), false
		default:
			return s.pruneFlows(tx, now, state)
		}
		if err := forget(hours, key, state); err != nil {
			return err
		}
	}
	return s.pruneFlows(tx, now, state)
}

// forgetOldest forgets the oldest hour that is over.
func (s *Store) forgetOldest(tx *bolt.Tx, now time.Time, state *state) error {
	hours := tx.Bucket(hoursBucket)
	key, _ := hours.Cursor().First()
	at := hourFrom(key)
	if key == nil || at >= hourOf(now) {
		return errors.New("there is no hour left that is over")
	}
	state.Forgotten = max(state.Forgotten, at)
	return forget(hours, key, state)
}

func forget(hours *bolt.Bucket, key []byte, state *state) error {
	state.Rows -= rowsOf(hours.Bucket(key))
	return hours.DeleteBucket(key)
}
