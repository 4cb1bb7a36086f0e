package metrics

import (
	"math"
	"slices"
	"sort"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// Native histograms have eight buckets for each power of two: each is 9 % wider than the
// one before.
const (
	nativeSchema  = 3
	perPower      = 1 << nativeSchema
	nativePowers  = 48 // powers of two between the smallest value that is told apart and the largest
	nativeBuckets = nativePowers * perPower
)

// fractions are the upper bounds of the buckets between 0.5 and 1.
var fractions = [perPower]float64{
	0.5, 0.5452538663326288, 0.5946035575013605, 0.6484197773255048,
	0.7071067811865475, 0.7711054127039704, 0.8408964152537144, 0.9170040432046711,
}

// scale is what all histograms of one metric share.
type scale struct {
	bounds   []float64 // of classic buckets, ascending
	smallest int       // power of two below which all is zero to a native histogram
}

var (
	// seconds: what a request takes, from a cache in the same machine to a long poll.
	seconds = scale{[]float64{0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 10}, -24}
	// octets: heads, pages, files.
	octets = scale{[]float64{1e3, 1e4, 1e5, 1e6, 1e7}, 0}
)

// series is how many series a histogram of this scale is: its buckets, sum and count.
func (s *scale) series() int { return len(s.bounds) + 3 }

// histogram counts values in classic and in native buckets. Whoever has it locks it. It is
// ours because the library's takes a lock or a dozen atomic operations for each of the
// three of a request, and this one lock for all.
type histogram struct {
	classic []uint64 // by bound, and one for what is above
	native  []uint64
	zero    uint64
	count   uint64
	sum     float64
}

func newHistogram(of *scale) histogram {
	return histogram{classic: make([]uint64, len(of.bounds)+1), native: make([]uint64, nativeBuckets)}
}

func (h *histogram) observe(of *scale, v float64) {
	h.count++
	h.sum += v
	at := 0
	for at < len(of.bounds) && v > of.bounds[at] {
		at++
	}
	h.classic[at]++
	fraction, power := math.Frexp(v)
	index := sort.SearchFloat64s(fractions[:], fraction) + (power-1-of.smallest)*perPower
	switch {
	case v <= 0 || index <= 0:
		h.zero++
	default:
		h.native[min(index, nativeBuckets-1)]++
	}
}

// plus adds what another one of the same scale has counted.
func (h *histogram) plus(o *histogram) {
	for i, n := range o.classic {
		h.classic[i] += n
	}
	for i, n := range o.native {
		h.native[i] += n
	}
	h.zero += o.zero
	h.count += o.count
	h.sum += o.sum
}

// copy is the histogram of a moment.
func (h *histogram) copy() histogram {
	c := *h
	c.classic, c.native = slices.Clone(h.classic), slices.Clone(h.native)
	return c
}

// write fills what is sent: the text format shows the classic buckets, protobuf both.
func (h *histogram) write(of *scale, to *dto.Metric) {
	out := &dto.Histogram{
		SampleCount: proto.Uint64(h.count), SampleSum: proto.Float64(h.sum),
		Schema: proto.Int32(nativeSchema), ZeroThreshold: proto.Float64(math.Ldexp(1, of.smallest)), ZeroCount: proto.Uint64(h.zero),
	}
	sum := uint64(0)
	for i, bound := range of.bounds {
		sum += h.classic[i]
		out.Bucket = append(out.Bucket, &dto.Bucket{UpperBound: proto.Float64(bound), CumulativeCount: proto.Uint64(sum)})
	}
	last, end := int64(0), 0
	var span *dto.BucketSpan
	for index, n := range h.native {
		if n == 0 {
			continue
		}
		key := index + of.smallest*perPower
		if span == nil || index != end {
			offset := key
			if span != nil {
				offset = index - end
			}
			span = &dto.BucketSpan{Offset: proto.Int32(int32(offset)), Length: proto.Uint32(0)}
			out.PositiveSpan = append(out.PositiveSpan, span)
		}
		*span.Length++
		out.PositiveDelta = append(out.PositiveDelta, int64(n)-last)
		last, end = int64(n), index+1
	}
	if len(out.PositiveSpan) == 0 {
		out.PositiveSpan = []*dto.BucketSpan{{Offset: proto.Int32(0), Length: proto.Uint32(0)}}
	}
	to.Histogram = out
}
