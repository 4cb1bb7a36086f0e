// Package stats is the little statistics that the tables of bench are made of.
// Its sections call it. It never drops a sample: what was measured counts.
package stats

import (
	"math"
	"slices"
)

// Median is the middle of the samples, the mean of the two middle ones where
// their number is even, and NaN where there is none.
func Median(samples []float64) float64 {
	n := len(samples)
	if n == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(samples))
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// Percentile is the smallest sample that at least p percent of the samples do
// not exceed (nearest rank); NaN where there is none. p is 0 to 100.
func Percentile(samples []float64, p float64) float64 {
	n := len(samples)
	if n == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(samples))
	rank := int(math.Ceil(p / 100 * float64(n)))
	return sorted[min(max(rank, 1), n)-1]
}

// Ratio is the median of ours over theirs, round by round: noise that lasts
// longer than a round falls out. Rounds that only one side has are left out; it
// is NaN where no round has both.
func Ratio(ours, theirs []float64) float64 {
	var ratios []float64
	for i := range min(len(ours), len(theirs)) {
		if theirs[i] != 0 {
			ratios = append(ratios, ours[i]/theirs[i])
		}
	}
	return Median(ratios)
}
