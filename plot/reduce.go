package plot

import (
	"maps"
	"math"
	"slices"
)

// Smooth returns the exponential moving average of y, with the bias of its beginning taken out: s_i is the sum of
// (1-w) w^(i-j) y_j over j <= i, divided by 1 - w^n, n being the numbers so far. Gaps stay gaps and count nothing.
// A weight of 0 is y itself, and 1 is not reached.
func Smooth(y []float64, weight float64) []float64 {
	if weight <= 0 {
		return y
	}
	weight = min(weight, 0.9999)
	out, sum, bias := make([]float64, len(y)), 0.0, 1.0
	for i, v := range y {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			out[i] = math.NaN()
			continue
		}
		sum = sum*weight + (1-weight)*v
		bias *= weight
		out[i] = sum / (1 - bias)
	}
	return out
}

// Reduced is a curve of fewer points, each for Each neighbours: their mean place, their mean, and the lowest and highest of
// them. Low and High are nil where nothing had to be put together.
type Reduced struct {
	X, Y, Low, High []float64
	Count, Each     int // points of the curve, and how many of them one point stands for
}

// Reduce puts neighbours together so that at most n points are left.
func Reduce(c Curve, n int) Reduced {
	return Reduced{X: c.X, Y: c.Y, Count: len(c.X), Each: 1}.Reduce(n)
}

// Reduce puts points together again. Gaps do not count; a point of gaps alone is one.
func (r Reduced) Reduce(n int) Reduced {
	if len(r.X) <= n {
		return r
	}
	lows, highs := r.Low, r.High
	if lows == nil {
		lows, highs = r.Y, r.Y
	}
	width := (len(r.X) + n - 1) / n
	out := Reduced{Count: r.Count, Each: r.Each * width}
	for from := 0; from < len(r.X); from += width {
		to := min(from+width, len(r.X))
		x, y, numbers, low, high := 0.0, 0.0, 0, math.Inf(1), math.Inf(-1)
		for i := from; i < to; i++ {
			x += r.X[i] / float64(to-from)
			if v := r.Y[i]; !math.IsNaN(v) && !math.IsInf(v, 0) {
				y, numbers, low, high = y+v, numbers+1, min(low, lows[i]), max(high, highs[i])
			}
		}
		if numbers == 0 {
			y, numbers, low, high = math.NaN(), 1, math.NaN(), math.NaN()
		}
		out.X, out.Y = append(out.X, x), append(out.Y, y/float64(numbers))
		out.Low, out.High = append(out.Low, low), append(out.High, high)
	}
	return out
}

// Mean is the mean of curves at each place where all of them have a number, by place, and the standard deviation of the
// sample there (0 of one curve): what runs that differ in their seed alone have in common.
func Mean(curves []Curve) (mean Curve, spread []float64) {
	if len(curves) == 0 {
		return mean, nil
	}
	at := map[float64][]float64{}
	for i, c := range curves {
		for k, x := range c.X {
			if y := c.Y[k]; drawable(x, y) && len(at[x]) == i { // once from each
				at[x] = append(at[x], y)
			}
		}
	}
	mean.Name = curves[0].Name
	for _, x := range slices.Sorted(maps.Keys(at)) {
		values := at[x]
		if len(values) < len(curves) {
			continue
		}
		sum, squares := 0.0, 0.0
		for _, v := range values {
			sum += v / float64(len(values))
		}
		for _, v := range values {
			squares += (v - sum) * (v - sum)
		}
		mean.X, mean.Y = append(mean.X, x), append(mean.Y, sum)
		spread = append(spread, math.Sqrt(squares/float64(max(len(values)-1, 1))))
	}
	return mean, spread
}

// Facts are what is said of a curve in a line: how many numbers it has, the last, the lowest, the highest.
type Facts struct {
	Points int     `json:"points"`
	Last   float64 `json:"last"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// FactsOf looks at a curve's finite numbers; Points is 0 without any.
func FactsOf(c Curve) Facts {
	f := Facts{Min: math.Inf(1), Max: math.Inf(-1)}
	for _, v := range c.Y {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			continue
		}
		f.Points, f.Last, f.Min, f.Max = f.Points+1, v, min(f.Min, v), max(f.Max, v)
	}
	if f.Points == 0 {
		return Facts{}
	}
	return f
}
