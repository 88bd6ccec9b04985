package stages

import (
	"math/bits"
)

// histogram counts sizes in buckets that are at most an eighth of their value wide, so that its memory is
// fixed and two of them add up exactly.
type histogram struct {
	buckets       [8 * 62]int64
	count         int64
	sum           int64
	least, most   int
	anythingFound bool
}

func (h *histogram) add(n int) {
	if !h.anythingFound || n < h.least {
		h.least = n
	}
	h.anythingFound = true
	h.most = max(h.most, n)
	h.count++
	h.sum += int64(n)
	h.buckets[bucketOf(n)]++
}

// bucketOf: below 16 each value has its own; above, eight to an octave.
func bucketOf(n int) int {
	if n < 16 {
		return n
	}
	octave := bits.Len(uint(n)) - 4
	return 8*octave + n>>octave
}

// bucketFrom is the least value of a bucket.
func bucketFrom(i int) int {
	if i < 16 {
		return i
	}
	octave := i/8 - 1
	return (i - 8*octave) << octave
}

// quantile is the least value of the bucket in which the share q of all values is reached.
func (h *histogram) quantile(q float64) int {
	var seen int64
	for i, n := range h.buckets {
		if seen += n; n > 0 && float64(seen) >= q*float64(h.count) {
			return bucketFrom(i)
		}
	}
	return 0
}

type histogramJSON struct {
	Of    string   `json:"of"`
	Unit  string   `json:"unit"`
	Count int64    `json:"count"`
	Sum   int64    `json:"sum"`
	Min   int      `json:"min"`
	P50   int      `json:"p50"`
	P90   int      `json:"p90"`
	P99   int      `json:"p99"`
	Max   int      `json:"max"`
	Bins  [][2]int `json:"bins"` // from, count; up to the next one's from
}

func (h *histogram) json(of, unit string) histogramJSON {
	j := histogramJSON{Of: of, Unit: unit, Count: h.count, Sum: h.sum, Min: h.least, Max: h.most,
		P50: h.quantile(0.5), P90: h.quantile(0.9), P99: h.quantile(0.99), Bins: [][2]int{}}
	for i, n := range h.buckets {
		if n > 0 {
			j.Bins = append(j.Bins, [2]int{bucketFrom(i), int(n)})
		}
	}
	return j
}
