package flowstore

import (
	"cmp"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"sluice.dev/sluice/internal/record"
)

// maxSummed bounds the sums that are added up for one answer: what comes on top is added
// to those of record.Other.
const maxSummed = 100_000

// Summary is who talked to what in a time.
type Summary struct {
	From  time.Time     `json:"from"` // the hour in which it begins
	Sums  []record.Sum  `json:"sums"` // those with most records first; their Hour is 0
	More  int           `json:"more,omitempty"`
	Total record.Counts `json:"total"` // of Sums and of those that More counts

	// Of all that the file ever took.
	Lost record.Losses `json:"lost"`
	// ForgottenTo is the end of what was forgotten before its time, where something was.
	ForgottenTo time.Time `json:"forgottenTo,omitzero"`
}

// Summary adds up the sums of the hours since a time that the filter lets through, and
// returns the largest, at most most.
func (s *Store) Summary(since time.Time, most int, filter record.SumFilter) (*Summary, error) {
	s.mu.Lock()
	answer := &Summary{Lost: record.Losses{Folded: s.state.Folded, NotKept: s.state.NotKept}}
	if at := s.state.Forgotten; at != 0 {
		answer.ForgottenTo = time.Unix((at+1)*3600, 0).UTC()
	}
	s.mu.Unlock()
	first := hourOf(since)
	answer.From = time.Unix(first*3600, 0).UTC()
	all := make(map[record.SumKey]*record.Counts)
	senseless := 0
	err := s.view(func(tx *bolt.Tx) error {
		hours := tx.Bucket(hoursBucket)
		cursor := hours.Cursor()
		for key, _ := cursor.Seek(hourKey(max(first, 0))); key != nil; key, _ = cursor.Next() {
			n, err := eachSum(hourFrom(key), hours.Bucket(key), func(sum *record.Sum) {
				if !filter.Match(sum) {
					return
				}
				answer.Total.Add(sum.Counts)
				k := sum.SumKey
				k.Hour = 0
				if all[k] == nil && len(all) >= maxSummed {
					k = record.SumKey{Host: record.Other, Verdict: k.Verdict}
				}
				if all[k] == nil {
					all[k] = new(record.Counts)
				}
				all[k].Add(sum.Counts)
			})
			if senseless += n; err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.leftOut(senseless)
	answer.Sums = make([]record.Sum, 0, len(all))
	for key, counts := range all {
		answer.Sums = append(answer.Sums, record.Sum{SumKey: key, Counts: *counts})
	}
	slices.SortFunc(answer.Sums, func(a, b record.Sum) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Workload, b.Workload), cmp.Compare(a.Host, b.Host),
			cmp.Compare(a.Port, b.Port), cmp.Compare(a.Verdict, b.Verdict), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Direction, b.Direction))
	})
	if len(answer.Sums) > most {
		answer.More = len(answer.Sums) - most
		answer.Sums = slices.Clone(answer.Sums[:most])
	}
	return answer, nil
}
