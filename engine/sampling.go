package engine

import (
	"fmt"
	"math"
	"slices"
)

// Sampling says how a token is chosen from logits. The zero value is greedy: the highest logit, the first of equals.
// The steps are transformers' processors, in generate()'s order: repetition penalty, temperature, top-k, top-p, min-p.
type Sampling struct {
	Temperature       float64 // 0: greedy
	TopK              int     // 0: off; keeps every token that equals the k-th best
	TopP              float64 // 0 or 1: off
	MinP              float64 // 0: off
	RepetitionPenalty float64 // 0 or 1: off; applies to greedy decoding too
}

// Check says which field makes no sense.
func (s Sampling) Check() error {
	switch {
	case s.Temperature < 0 || math.IsNaN(s.Temperature):
		return fmt.Errorf("temperature: must not be negative")
	case s.TopK < 0:
		return fmt.Errorf("top_k: must not be negative")
	case s.TopP < 0 || s.TopP > 1:
		return fmt.Errorf("top_p: must be between 0 and 1")
	case s.MinP < 0 || s.MinP > 1:
		return fmt.Errorf("min_p: must be between 0 and 1")
	case s.RepetitionPenalty < 0:
		return fmt.Errorf("repetition_penalty: must be above 0")
	}
	return nil
}

// sampler chooses tokens; it holds the scratch of one decoding lane.
type sampler struct {
	Sampling
	kept  []scored
	probs []float64
}

type scored struct {
	id    int32
	score float32
}

// next chooses a token. It changes logits; seen holds the ids that the repetition penalty counts (prompt and
// output so far); u is a number of [0, 1) that decides among what is left.
func (s *sampler) next(logits []float32, seen []int32, u float64) int32 {
	penalise(logits, seen, s.RepetitionPenalty)
	if s.Temperature == 0 {
		return argmax(logits)
	}
	s.warp(logits)
	total := s.softmax()
	left := u * total
	for i, p := range s.probs {
		if left -= p; left < 0 {
			return s.kept[i].id
		}
	}
	return s.kept[len(s.kept)-1].id
}

// warp fills kept with the tokens that remain and their scores, in descending order where that was needed.
func (s *sampler) warp(logits []float32) {
	s.kept = s.kept[:0]
	temperature := float32(s.Temperature)
	for i, v := range logits {
		if s.Temperature != 0 {
			v /= temperature
		}
		if !math.IsInf(float64(v), -1) {
			s.kept = append(s.kept, scored{int32(i), v})
		}
	}
	if s.TopK > 0 && s.TopK < len(s.kept) {
		s.keepTopK()
	}
	if s.TopP > 0 && s.TopP < 1 {
		s.keepTopP()
	}
	if s.MinP > 0 {
		s.keepMinP()
	}
}

func (s *sampler) keepTopK() {
	s.sort()
	limit := s.kept[s.TopK-1].score
	n := s.TopK
	for n < len(s.kept) && s.kept[n].score == limit {
		n++
	}
	s.kept = s.kept[:n]
}

// keepTopP drops the least likely tokens whose probabilities add up to at most 1-p; the best always stays.
func (s *sampler) keepTopP() {
	s.sort()
	total := s.softmax()
	sum := 0.0
	n := len(s.kept)
	for n > 1 {
		sum += s.probs[n-1] / total
		if float32(sum) > float32(1-s.TopP) {
			break
		}
		n--
	}
	s.kept = s.kept[:n]
}

func (s *sampler) keepMinP() {
	s.softmax() // relative to the best: its own weight is 1
	n := 0
	for i, k := range s.kept {
		if float32(s.probs[i]) >= float32(s.MinP) {
			s.kept[n] = k
			n++
		}
	}
	s.kept = s.kept[:n]
}

func (s *sampler) sort() {
	slices.SortFunc(s.kept, func(a, b scored) int {
		switch {
		case a.score > b.score:
			return -1
		case a.score < b.score:
			return 1
		}
		return int(a.id - b.id)
	})
}

// softmax fills probs with exp(score - highest) and returns their sum.
func (s *sampler) softmax() float64 {
	high := float32(math.Inf(-1))
	for _, k := range s.kept {
		high = max(high, k.score)
	}
	s.probs = s.probs[:0]
	total := 0.0
	for _, k := range s.kept {
		p := math.Exp(float64(k.score - high))
		s.probs = append(s.probs, p)
		total += p
	}
	return total
}

// penalise divides the scores of tokens already seen (multiplies negative ones), each once however often it came
// (Keskar and others: CTRL, 2019).
func penalise(logits []float32, seen []int32, penalty float64) {
	if penalty == 0 || penalty == 1 {
		return
	}
	p := float32(penalty)
	done := make(map[int32]bool, len(seen))
	for _, id := range seen {
		if done[id] || int(id) >= len(logits) {
			continue
		}
		done[id] = true
		if logits[id] < 0 {
			logits[id] *= p
		} else {
			logits[id] /= p
		}
	}
}

func argmax(v []float32) int32 {
	best := 0
	for i, x := range v {
		if x > v[best] {
			best = i
		}
	}
	return int32(best)
}
