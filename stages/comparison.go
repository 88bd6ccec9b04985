package stages

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"

	"lpipe/runner"
)

// comparison is what changed since an earlier report.
type comparison struct {
	Rows       [2]int64          `json:"rows"` // before, now
	Kept       [2]int64          `json:"kept"`
	Checks     []checkChange     `json:"checks"`
	Histograms []histogramChange `json:"histograms"`
	Sources    []sourceChange    `json:"sources"`
}

// checkChange is a check whose share of rows, or severity, is another one now.
type checkChange struct {
	Check    string     `json:"check"`
	Severity [2]string  `json:"severity"`
	Share    [2]float64 `json:"share"`
}

// histogramChange is how far a distribution moved: the median, the population stability index (0.1 is commonly taken for
// little, 0.25 for much), and Kolmogorov and Smirnov's largest distance of the two cumulated shares.
type histogramChange struct {
	Of   string  `json:"of"`
	Unit string  `json:"unit"`
	P50  [2]int  `json:"p50"`
	PSI  float64 `json:"psi"`
	KS   float64 `json:"ks"`
}

// sourceChange is a source's share of the rows that go on.
type sourceChange struct {
	Source  string     `json:"source"`
	License string     `json:"license"`
	Share   [2]float64 `json:"share"`
}

// readReport reads the report of an earlier run; nil without one.
func readReport(env *runner.Env, path string) (*report, error) {
	if path == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the earlier report: %w", err)
	}
	r := &report{}
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, fmt.Errorf("%s is no report of validate: %w", shown(env, path), err)
	}
	if r.Schema != reportSchema {
		return nil, fmt.Errorf("%s is a report of schema %d, and this version compares schema %d: leave the input before out once", shown(env, path), r.Schema, reportSchema)
	}
	return r, nil
}

// compareReports tells what changed from one report to the next; nil without an earlier one.
func compareReports(before, now *report) *comparison {
	if before == nil {
		return nil
	}
	c := &comparison{Rows: [2]int64{before.Rows, now.Rows}, Kept: [2]int64{before.Kept, now.Kept}, Checks: []checkChange{}, Histograms: []histogramChange{}, Sources: []sourceChange{}}
	for _, check := range now.Checks {
		old := checkReport{Severity: "off"} // a check that there was not
		if i := slices.IndexFunc(before.Checks, func(b checkReport) bool { return b.Check == check.Check }); i >= 0 {
			old = before.Checks[i]
		}
		if old.Severity != check.Severity || old.Share != check.Share {
			c.Checks = append(c.Checks, checkChange{check.Check, [2]string{old.Severity, check.Severity}, [2]float64{old.Share, check.Share}})
		}
	}
	for _, h := range now.Histograms {
		i := slices.IndexFunc(before.Histograms, func(b histogramJSON) bool { return b.Of == h.Of && b.Unit == h.Unit })
		if i >= 0 {
			psi, ks := drift(before.Histograms[i], h)
			c.Histograms = append(c.Histograms, histogramChange{h.Of, h.Unit, [2]int{before.Histograms[i].P50, h.P50}, psi, ks})
		}
	}
	c.Sources = sourceChanges(before, now)
	return c
}

// drift is the population stability index Σ (q-p)·ln(q/p) over the octaves of two histograms, and the largest distance of their
// cumulated shares. An octave that one of them lacks counts as half a row there: the logarithm must stay finite.
func drift(before, now histogramJSON) (psi, ks float64) {
	if before.Count == 0 || now.Count == 0 {
		return 0, 0
	}
	var counts [2][64]float64
	for side, h := range [...]histogramJSON{before, now} {
		for _, bin := range h.Bins {
			counts[side][octave(bin[0])] += float64(bin[1])
		}
	}
	sums := [2]float64{}
	for i := range counts[0] {
		if counts[0][i]+counts[1][i] == 0 {
			continue
		}
		p, q := max(counts[0][i], 0.5)/float64(before.Count), max(counts[1][i], 0.5)/float64(now.Count)
		psi += (q - p) * math.Log(q/p)
		sums[0] += counts[0][i] / float64(before.Count)
		sums[1] += counts[1][i] / float64(now.Count)
		ks = max(ks, math.Abs(sums[0]-sums[1]))
	}
	return round4(psi), round4(ks)
}

// octave is the number of binary digits of a size.
func octave(n int) int {
	digits := 0
	for ; n > 0; n >>= 1 {
		digits++
	}
	return digits
}

func round4(x float64) float64 { return math.Round(1e4*x) / 1e4 }

// sourceChanges lists the sources whose share of the kept rows moved by a thousandth or more.
func sourceChanges(before, now *report) []sourceChange {
	changes := []sourceChange{}
	share := func(r *report, s sourceReport) float64 {
		for _, one := range r.Sources {
			if one.Source == s.Source && one.License == s.License {
				return float64(one.Kept) / float64(max(r.Kept, 1))
			}
		}
		return 0
	}
	for _, s := range append(slices.Clone(now.Sources), before.Sources...) {
		known := slices.ContainsFunc(changes, func(c sourceChange) bool { return c.Source == s.Source && c.License == s.License })
		if was, is := share(before, s), share(now, s); !known && math.Abs(was-is) >= 0.001 {
			changes = append(changes, sourceChange{s.Source, s.License, [2]float64{round4(was), round4(is)}})
		}
	}
	return changes
}
