package stats

import (
	"math"
	"slices"
	"testing"
)

func TestMedianIsTheMiddle(t *testing.T) {
	cases := []struct {
		name    string
		samples []float64
		want    float64
	}{
		{"one", []float64{3}, 3},
		{"odd, unsorted", []float64{9, 1, 5}, 5},
		{"even: the mean of the two middle ones", []float64{4, 1, 3, 100}, 3.5},
		{"one outlier does not move it", []float64{2, 2, 2, 2, 1e9}, 2},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			before := slices.Clone(c.samples)
			if got := Median(c.samples); got != c.want {
				t.Errorf("Median(%v) = %v, want %v", c.samples, got, c.want)
			}
			if !slices.Equal(before, c.samples) {
				t.Errorf("the samples were changed to %v", c.samples)
			}
		})
	}
	if got := Median(nil); !math.IsNaN(got) {
		t.Errorf("Median of nothing = %v, want NaN", got)
	}
}

func TestPercentileIsTheNearestRank(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[99-i] = float64(i + 1)
	}
	cases := []struct {
		samples []float64
		p, want float64
	}{
		{hundred, 50, 50}, {hundred, 99, 99}, {hundred, 100, 100}, {hundred, 0, 1}, {hundred, 99.5, 100},
		{[]float64{7}, 99, 7},
		{[]float64{1, 2}, 50, 1}, {[]float64{1, 2}, 51, 2},
	}
	for _, c := range cases {
		if got := Percentile(c.samples, c.p); got != c.want {
			t.Errorf("Percentile of %d samples at %v = %v, want %v", len(c.samples), c.p, got, c.want)
		}
	}
	if got := Percentile(nil, 50); !math.IsNaN(got) {
		t.Errorf("Percentile of nothing = %v, want NaN", got)
	}
}

func TestRatioComparesRoundByRound(t *testing.T) {
	// The machine was three times slower in the second round, for both alike.
	if got := Ratio([]float64{8, 24, 8}, []float64{10, 30, 10}); math.Abs(got-0.8) > 1e-12 {
		t.Errorf("Ratio = %v, want 0.8", got)
	}
	if got := Ratio([]float64{5, 1, 1}, []float64{10, 0}); got != 0.5 {
		t.Errorf("Ratio = %v, want 0.5 of the one round that both have", got)
	}
	if got := Ratio([]float64{5}, nil); !math.IsNaN(got) {
		t.Errorf("Ratio without a peer = %v, want NaN", got)
	}
}
