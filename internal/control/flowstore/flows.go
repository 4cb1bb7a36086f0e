package flowstore

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"

	bolt "go.etcd.io/bbolt"

	"sluice.dev/sluice/internal/record"
)

// flowKey orders flows by when they ended.
func flowKey(f *record.Record) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(f.Start.Add(f.Duration).UnixNano()))
	return binary.BigEndian.AppendUint64(b, uint64(f.ID))
}

func idKey(id record.ID) []byte { return binary.BigEndian.AppendUint64(nil, uint64(id)) }

// addFlows keeps flows one by one.
func (s *Store) addFlows(tx *bolt.Tx, now time.Time, state *state, flows []record.Record) error {
	bucket, ids := tx.Bucket(flowsBucket), tx.Bucket(idsBucket)
	bucket.FillPercent = 0.9 // most come in their order
	for i := range flows {
		f := &flows[i]
		if end := f.Start.Add(f.Duration); end.After(now) || f.Duration < 0 { // clocks differ
			f.Start, f.Duration = now, 0
		}
		if ids.Get(idKey(f.ID)) != nil {
			continue
		}
		value, err := json.Marshal(f)
		if err != nil {
			return err
		}
		key := flowKey(f)
		if err := errors.Join(bucket.Put(key, value), ids.Put(idKey(f.ID), key)); err != nil {
			return err
		}
		state.Flows++
		state.FlowBytes += len(value)
	}
	return nil
}

// maxPruned is how many flows one change forgets, more than a batch has: the next goes on.
// Until a change is written the library walks over all that it emptied, for each that it
// forgets: all at once, with the lock held, would take the square of their number.
const maxPruned = 2 * record.MaxKept

// pruneFlows forgets flows that are old, or too many.
func (s *Store) pruneFlows(tx *bolt.Tx, now time.Time, state *state) error {
	bucket, ids := tx.Bucket(flowsBucket), tx.Bucket(idsBucket)
	oldest := uint64(now.Add(-KeepFlows).UnixNano())
	cursor := bucket.Cursor()
	for range maxPruned {
		key, value := cursor.First()
		if key == nil {
			return nil
		}
		if len(key) != 16 { // none of ours
			if err := cursor.Delete(); err != nil {
				return err
			}
			continue
		}
		early := binary.BigEndian.Uint64(key) >= oldest
		if early && state.Flows <= s.limits.flows && state.FlowBytes <= s.limits.flowBytes {
			return nil
		}
		if early {
			state.NotKept++
		}
		state.Flows--
		state.FlowBytes -= len(value)
		if err := errors.Join(ids.Delete(key[8:]), cursor.Delete()); err != nil {
			return err
		}
	}
	return nil
}

// Flow returns one that is kept.
func (s *Store) Flow(id record.ID) (f record.Record, ok bool, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		key := tx.Bucket(idsBucket).Get(idKey(id))
		if key == nil {
			return nil
		}
		if ok = decode(tx.Bucket(flowsBucket).Get(key), &f) == nil; !ok {
			f = record.Record{} // what it made sense of
			s.leftOut(1)
		}
		return nil
	})
	return f, ok && err == nil, err
}

// Flows returns the newest n of those that are kept and that the filter lets through, by
// when they ended.
func (s *Store) Flows(n int, filter record.Filter) (flows []record.Record, err error) {
	senseless := 0
	err = s.view(func(tx *bolt.Tx) error {
		cursor := tx.Bucket(flowsBucket).Cursor()
		for key, value := cursor.Last(); key != nil && len(flows) < n; key, value = cursor.Prev() {
			var f record.Record
			if decode(value, &f) != nil {
				senseless++
				continue
			}
			if filter.Match(&f) {
				flows = append(flows, f)
			}
		}
		return nil
	})
	s.leftOut(senseless)
	return flows, err
}

func decode(value []byte, f *record.Record) error { return json.Unmarshal(value, f) }
