package stages

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"lpipe/dataset"
)

// Hostile to whatever compares rows with rows: two hundred thousand that are all alike, or half alike. What takes the square of
// their number would not end here.
const crowded = 200_000

// finishes fails if the work takes longer than any machine of today needs that does it once a row.
func finishes(t *testing.T, work func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := work(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestConflictsOfOnePrompt(t *testing.T) {
	for name, answer := range map[string]func(i int) uint64{
		"an answer each": func(i int) uint64 { return mix(uint64(i)) },
		"two answers":    func(i int) uint64 { return uint64(i % 2) },
		"one other":      func(i int) uint64 { return uint64(i / (crowded - 1)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSeen(NearDuplicates{}, t.TempDir())
			defer s.close()
			for i := range crowded {
				if err := s.answers.add(pair{77, answer(i), uint64(i + 1)}); err != nil {
					t.Fatal(err)
				}
			}
			finishes(t, func(ctx context.Context) error {
				other, err := s.otherAnswers(ctx)
				if err != nil {
					return err
				}
				defer other.close()
				for _, row := range []int{1, 2, 3, crowded} {
					want := uint64(1)
					for answer(int(want)-1) == answer(row-1) {
						want++
					}
					if got, ok, err := other.get(uint64(row)); err != nil || !ok || got != want {
						t.Errorf("row %d conflicts with %d, %v %v; want %d", row, got, ok, err, want)
					}
				}
				return nil
			})
		})
	}
}

// The first row with another answer is found as by looking at all of them.
func TestConflictsAsByLookingAtAll(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	for range 200 {
		s := newSeen(NearDuplicates{}, t.TempDir())
		var pairs []pair
		for row := range uint64(rng.IntN(40)) {
			p := pair{rng.Uint64N(6), rng.Uint64N(4), row + 1}
			pairs = append(pairs, p)
			if err := s.answers.add(p); err != nil {
				t.Fatal(err)
			}
		}
		other, err := s.otherAnswers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pairs {
			at := slices.IndexFunc(pairs, func(q pair) bool { return q.hi == p.hi && q.lo != p.lo })
			got, ok, err := other.get(p.row)
			if err != nil || ok != (at >= 0) || ok && got != pairs[at].row {
				t.Fatalf("%v of %v: %d %v %v", p, pairs, got, ok, err)
			}
		}
		other.close()
		s.close()
	}
}

func TestSplitOfRowsAllAlike(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	rng := rand.New(rand.NewPCG(9, 9))
	words := func(n int) string { return strings.Join(sentence(rng, n), " ") }
	preamble := words(12)
	for name, prompt := range map[string]func(i int) string{
		"the same prompt": func(int) string {
			return "A farmer has nine cows and sells two of them, how many cows are left on the farm?"
		},
		"all but a number":    func(i int) string { return fmt.Sprintf("%s has %d cows %s", preamble, i, preamble) },
		"half the same words": func(int) string { return preamble + " " + words(6) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			out, err := dataset.CreateRows(b.path("rows.jsonl"))
			if err != nil {
				t.Fatal(err)
			}
			rows := crowded
			if name != "the same prompt" {
				rows /= 4
			}
			for i := range rows {
				row := asked(fmt.Sprint(i), prompt(i))
				if err := out.Write(&row); err != nil {
					t.Fatal(err)
				}
			}
			if err := out.Close(); err != nil {
				t.Fatal(err)
			}
			s := stageOf[*Split](t, "split")
			s.Ratios = Ratios{Train: 1}
			if name == "half the same words" {
				s.Ratios = Ratios{0.5, 0.25, 0.25}
			}
			b.in["data"] = []string{b.path("rows.jsonl")}
			for _, set := range setNames {
				b.out[set] = b.path(set + ".jsonl")
			}
			b.out["report"] = b.path("report.json")
			start := time.Now()
			finishes(t, func(ctx context.Context) error { return s.Run(ctx, b.env()) })
			t.Log(time.Since(start).Round(time.Millisecond), b.log.String())
		})
	}
}

// A band that is full of unlike rows of all sets is looked at as far as it can be, and given up when that is asked for.
func TestCrowdedBand(t *testing.T) {
	rng := rand.New(rand.NewPCG(10, 10))
	c := newClusterer(defaultNear(), t.TempDir())
	defer c.close()
	sets := make([]int8, crowded+1)
	for row := uint64(1); row <= crowded; row++ {
		s := signature{row: row, bands: []pair{{5, 0, row}}}
		for i := range s.bytes {
			s.bytes[i] = byte(rng.Uint32())
		}
		sets[row] = int8(row % 3)
		if err := c.add(s); err != nil {
			t.Fatal(err)
		}
	}
	none := func(_, _ uint64) error { return errors.New("unlike rows are taken for alike") }
	if err := c.flush(); err != nil {
		t.Fatal(err)
	}
	finishes(t, func(ctx context.Context) error {
		partly, err := c.across(ctx, sets, none)
		if partly != crowded-mostKinds {
			t.Errorf("%d rows were compared with some only", partly)
		}
		return err
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.across(ctx, sets, none); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := c.pairs(ctx, none); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Bytes are counted eight at a time as one by one.
func TestEqualBytes(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 11))
	for range 2000 {
		var a, b [permutations]byte
		want := 0
		for i := range a {
			a[i], b[i] = byte(rng.Uint32()), byte(rng.Uint32())
			switch rng.IntN(4) {
			case 0:
				b[i] = a[i]
			case 1:
				b[i] = a[i] ^ 1<<rng.IntN(8)
			}
			if a[i] == b[i] {
				want++
			}
		}
		if got := equalBytes(&a, &b); got != want {
			t.Fatalf("%d equal bytes, counted %d", want, got)
		}
	}
}
