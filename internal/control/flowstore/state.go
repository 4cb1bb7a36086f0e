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
		return fmt.Errorf("its state is not valid: %w", err)
	}
	if s.Rows < 0 || s.Flows < 0 || s.FlowBytes < 0 {
		return errors.New("its state is not valid: a number is negative")
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

// prune forgets what is older than is kept, and the oldest of what is too much.
func (s *Store) prune(tx *bolt.Tx, now time.Time, state *state) error {
	hours := tx.Bucket(hoursBucket)
	oldest := hourOf(now.Add(-KeepSums))
	for cursor := hours.Cursor(); ; {
		key, _ := cursor.First()
		if key == nil {
			break
		}
		at := hourFrom(key)
		early := at >= oldest
		if early && state.Rows <= s.limits.rows {
			break
		}
		if early {
			state.Forgotten = max(state.Forgotten, at)
		}
		state.Rows -= rowsOf(hours.Bucket(key))
		if err := hours.DeleteBucket(key); err != nil {
			return err
		}
	}
	return s.pruneFlows(tx, now, state)
}
