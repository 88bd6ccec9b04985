package stages

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// set is the text of n rows whose ids begin with name.
func set(name string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"id":"%s%d","messages":[{"role":"user","content":"q %s %d"},{"role":"assistant","content":"a"}]}`+"\n", name, i, name, i)
	}
	return b.String()
}

// mixedIDs runs a mix of sets a, b, … of these sizes and returns the ids written.
func mixedIDs(t *testing.T, m *Mix, sizes ...int) ([]string, error) {
	t.Helper()
	b := newBench(t)
	for i, n := range sizes {
		name := string(rune('a' + i))
		b.in["data"] = append(b.in["data"], b.file(name+".jsonl", set(name, n)))
	}
	b.out["data"] = b.path("out.jsonl")
	if err := b.run(m); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(b.out["data"])
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for line := range strings.Lines(string(text)) {
		id, _, _ := strings.Cut(strings.TrimPrefix(line, `{"id":"`), `"`)
		ids = append(ids, id)
	}
	return ids, nil
}

func TestMixShares(t *testing.T) {
	for name, c := range map[string]struct {
		weights []float64
		limit   int
		sizes   []int
		want    string // rows of each set
	}{
		"everything once":          {nil, 0, []int{10, 3}, "a10 b3"},
		"everything, cut":          {nil, 6, []int{10, 5}, "a4 b2"},
		"no row twice":             {[]float64{1, 1}, 0, []int{10, 4}, "a4 b4"},
		"three to one":             {[]float64{3, 1}, 0, []int{30, 100}, "a30 b10"},
		"a share of nothing":       {[]float64{1, 0}, 0, []int{5, 5}, "a5 b0"},
		"too small, so repeated":   {[]float64{1, 1}, 20, []int{100, 4}, "a10 b10"},
		"rounding adds up":         {[]float64{1, 1, 1}, 10, []int{9, 9, 9}, "a4 b3 c3"},
		"an empty set of no share": {[]float64{1, 0}, 0, []int{2, 0}, "a2 b0"},
	} {
		t.Run(name, func(t *testing.T) {
			ids, err := mixedIDs(t, &Mix{Weights: c.weights, Limit: c.limit, Seed: 1}, c.sizes...)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i := range c.sizes {
				set, n := string(rune('a'+i)), 0
				for _, id := range ids {
					if strings.HasPrefix(id, set) {
						n++
					}
				}
				got = append(got, fmt.Sprintf("%s%d", set, n))
			}
			if text := strings.Join(got, " "); text != c.want {
				t.Errorf("got %s, want %s", text, c.want)
			}
		})
	}
}

// A set that is repeated gives each row equally often, as far as that goes; one that is not needed whole gives no row twice.
func TestMixIsFairToRows(t *testing.T) {
	ids, err := mixedIDs(t, &Mix{Weights: []float64{1, 1}, Limit: 20, Seed: 3}, 100, 4)
	if err != nil {
		t.Fatal(err)
	}
	times := map[string]int{}
	for _, id := range ids {
		times[id]++
	}
	for id, n := range times {
		if strings.HasPrefix(id, "a") && n != 1 || strings.HasPrefix(id, "b") && (n < 2 || n > 3) {
			t.Errorf("%s stands %d times", id, n)
		}
	}
}

// The same seed gives the same rows, another seed others; every stretch of the output holds the shares.
func TestMixDraws(t *testing.T) {
	draw := func(seed int64) []string {
		ids, err := mixedIDs(t, &Mix{Weights: []float64{1, 3}, Limit: 80, Seed: seed}, 500, 500)
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	first, again, other := draw(1), draw(1), draw(2)
	if strings.Join(first, " ") != strings.Join(again, " ") {
		t.Error("the same seed gave other rows")
	}
	if strings.Join(first, " ") == strings.Join(other, " ") {
		t.Error("another seed gave the same rows")
	}
	for at := 0; at+8 <= len(first); at += 8 {
		if n := strings.Count(strings.Join(first[at:at+8], " "), "a"); n < 1 || n > 3 {
			t.Errorf("rows %d to %d: %v", at, at+8, first[at:at+8])
		}
	}
}

func TestMixMistakes(t *testing.T) {
	for name, c := range map[string]struct {
		m     Mix
		sizes []int
		want  string
	}{
		"too few weights": {Mix{Weights: []float64{1}}, []int{1, 1}, "weights: 1 for 2 sets"},
		"negative":        {Mix{Weights: []float64{1, -1}}, []int{1, 1}, "weights: must be 0 or more, not -1"},
		"all zero":        {Mix{Weights: []float64{0, 0}}, []int{1, 1}, "weights: at least one"},
		"an empty set":    {Mix{Weights: []float64{1, 1}}, []int{1, 0}, "b.jsonl: no rows in it"},
		"nothing":         {Mix{}, []int{0, 0}, "no rows"},
		"limit":           {Mix{Limit: -1}, []int{1}, "limit: must not be negative"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := mixedIDs(t, &c.m, c.sizes...)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}
