package flowstore

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"sluice.dev/sluice/internal/record"
	"sluice.dev/sluice/internal/refusal"
)

// An hour is a bucket of
//
//	rows   by who, what, port and host: counts
//	names  by JSON of who or what: its number, and of who how many rows it has
//	words  by number: that JSON
//
// so that a row holds neither the name of its workload nor that of its rule.
var (
	rowsKey  = []byte("rows")
	namesKey = []byte("names")
	wordsKey = []byte("words")
)

// who is whose rows they are.
type who struct {
	Namespace string `json:"n,omitempty"`
	Workload  string `json:"w"`
}

// what is what came of it.
type what struct {
	Direction record.Direction `json:"d,omitempty"`
	Verdict   record.Verdict   `json:"v,omitempty"`
	Reason    refusal.Reason   `json:"e,omitempty"`
	Rule      string           `json:"r,omitempty"`
}

func hourKey(hour int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(hour)) }

func hourFrom(key []byte) int64 {
	if len(key) != 8 {
		return math.MinInt64 // none of ours: it is forgotten
	}
	return int64(binary.BigEndian.Uint64(key))
}

// rowsOf is how many rows an hour has.
func rowsOf(hour *bolt.Bucket) int {
	if hour == nil || hour.Bucket(rowsKey) == nil {
		return 0
	}
	return int(hour.Bucket(rowsKey).Sequence())
}

// openHour is one that is added to.
type openHour struct {
	rows, names, words *bolt.Bucket
	limits             *limits
}

func (s *Store) openHour(tx *bolt.Tx, hour int64) (*openHour, error) {
	bucket, err := tx.Bucket(hoursBucket).CreateBucketIfNotExists(hourKey(hour))
	if err != nil {
		return nil, err
	}
	rows, rowsErr := bucket.CreateBucketIfNotExists(rowsKey)
	names, namesErr := bucket.CreateBucketIfNotExists(namesKey)
	words, wordsErr := bucket.CreateBucketIfNotExists(wordsKey)
	return &openHour{rows, names, words, &s.limits}, errors.Join(rowsErr, namesErr, wordsErr)
}

// addSums adds sums to the hours that they are of. One of an hour that is not kept, or not
// begun yet, is of the nearest that is: clocks differ.
func (s *Store) addSums(tx *bolt.Tx, now time.Time, state *state, sums []record.Sum) error {
	first, last := hourOf(now.Add(-KeepSums))+1, hourOf(now)
	order := make([]*record.Sum, len(sums))
	for i := range sums {
		order[i] = &sums[i]
	}
	slices.SortFunc(order, func(a, b *record.Sum) int { // rows that stand together are written together
		return cmp.Or(cmp.Compare(a.Hour, b.Hour), cmp.Compare(a.Workload, b.Workload), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Host, b.Host))
	})
	open := make(map[int64]*openHour)
	for _, sum := range order {
		hour := min(max(sum.Hour, first), last)
		h := open[hour]
		if h == nil {
			var err error
			if h, err = s.openHour(tx, hour); err != nil {
				return err
			}
			open[hour] = h
		}
		if err := h.add(sum, state); err != nil {
			return err
		}
	}
	return nil
}

// add adds one sum.
func (h *openHour) add(sum *record.Sum, state *state) error {
	whose, err := json.Marshal(who{cut(sum.Namespace), cut(sum.Workload)})
	if err != nil {
		return err
	}
	of, err := json.Marshal(what{sum.Direction, sum.Verdict, refusal.Reason(cut(string(sum.Reason))), cut(sum.Rule)})
	if err != nil {
		return err
	}
	whoID, theirs, err := h.number(whose)
	if err != nil {
		return err
	}
	whatID, _, err := h.number(of)
	if err != nil {
		return err
	}
	key := rowKey(whoID, whatID, sum.Port, cut(sum.Host))
	before := h.rows.Get(key)
	if before == nil && (int(h.rows.Sequence()) >= h.limits.hourRows || theirs >= h.limits.hourRows/4) {
		if sum.Host != record.Other || sum.Port != 0 { // else it is what a proxy folded, and counted
			state.Folded += sum.Count
		}
		key = rowKey(whoID, whatID, 0, record.Other)
		if int(h.rows.Sequence()) >= 2*h.limits.hourRows {
			key = rowKey(0, 0, 0, record.Other)
		}
		before = h.rows.Get(key)
	}
	counts := sum.Counts
	if before == nil {
		state.Rows++
		if err := errors.Join(h.rows.SetSequence(h.rows.Sequence()+1), h.names.Put(whose, nameValue(whoID, theirs+1))); err != nil {
			return err
		}
	} else if old, ok := countsFrom(before); ok {
		counts.Add(old)
	}
	return h.rows.Put(key, appendCounts(nil, counts))
}

// number returns the number of a name in this hour, and how many rows it has. Beyond
// maxNames all have the number 0.
func (h *openHour) number(name []byte) (id uint32, rows int, err error) {
	if value := h.names.Get(name); len(value) == 8 {
		return binary.BigEndian.Uint32(value), int(binary.BigEndian.Uint32(value[4:])), nil
	}
	if h.names.Sequence() >= maxNames {
		return 0, 0, nil
	}
	next, err := h.names.NextSequence()
	if err != nil {
		return 0, 0, err
	}
	id = uint32(next)
	return id, 0, errors.Join(h.names.Put(name, nameValue(id, 0)), h.words.Put(binary.BigEndian.AppendUint32(nil, id), name))
}

func nameValue(id uint32, rows int) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, id), uint32(rows))
}

func rowKey(whoID, whatID uint32, port uint16, host string) []byte {
	b := make([]byte, 0, 10+len(host))
	b = binary.BigEndian.AppendUint32(b, whoID)
	b = binary.BigEndian.AppendUint32(b, whatID)
	return append(binary.BigEndian.AppendUint16(b, port), host...)
}

// cut bounds what a proxy says.
func cut(s string) string { return record.Text(s) }

func appendCounts(b []byte, c record.Counts) []byte {
	for _, n := range [...]int64{c.Count, c.Sent, c.Received} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return b
}

func countsFrom(b []byte) (c record.Counts, ok bool) {
	for _, to := range [...]*int64{&c.Count, &c.Sent, &c.Received} {
		n, size := binary.Uvarint(b)
		if size <= 0 {
			return record.Counts{}, false
		}
		*to, b = int64(n), b[size:]
	}
	return c, len(b) == 0
}

// eachSum calls do with the sums of one hour, and returns how many rows make no sense: they
// cost what they counted, and nothing beside.
func eachSum(hour int64, bucket *bolt.Bucket, do func(*record.Sum)) (senseless int, err error) {
	if bucket == nil || bucket.Bucket(rowsKey) == nil || bucket.Bucket(wordsKey) == nil {
		return 1, nil
	}
	rows, words := bucket.Bucket(rowsKey), bucket.Bucket(wordsKey)
	whos, whats := make(map[uint32]who), make(map[uint32]what)
	err = rows.ForEach(func(key, value []byte) error {
		counts, ok := countsFrom(value)
		if !ok || len(key) < 10 {
			senseless++
			return nil
		}
		w, err := word(words, whos, binary.BigEndian.Uint32(key))
		if err != nil {
			senseless++
			return nil
		}
		of, err := word(words, whats, binary.BigEndian.Uint32(key[4:]))
		if err != nil {
			senseless++
			return nil
		}
		do(&record.Sum{SumKey: record.SumKey{
			Hour: hour, Namespace: w.Namespace, Workload: w.Workload, Direction: of.Direction, Host: string(key[10:]), Port: binary.BigEndian.Uint16(key[8:]),
			Verdict: of.Verdict, Reason: of.Reason, Rule: of.Rule,
		}, Counts: counts})
		return nil
	})
	return senseless, err
}

// word returns what has a number; of 0 nothing is known.
func word[T any](words *bolt.Bucket, known map[uint32]T, id uint32) (value T, err error) {
	value, there := known[id]
	if there || id == 0 {
		return value, nil
	}
	if err := json.Unmarshal(words.Get(binary.BigEndian.AppendUint32(nil, id)), &value); err != nil {
		return value, fmt.Errorf("a name of an hour makes no sense: %w", err)
	}
	known[id] = value
	return value, nil
}
