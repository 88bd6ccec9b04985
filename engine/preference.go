package engine

import (
	"context"
	"math"

	"lpipe/engine/model"
)

// Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290, equation 7): with log p the sum over an answer's
// tokens, and ref the base model without the adapter,
//
//	reward(answer) = beta · (log p(answer) - log p_ref(answer))
//	loss = -log σ(reward(chosen) - reward(rejected))
//
// The reference is computed in the same pack, just before the training pass: it needs no memory and no second place in a
// checkpoint, and while the adapter adds nothing both are the same bits, so that the first loss is log 2. Validation
// sets, which are measured again and again in the same packs, keep theirs.

// preference counts pairs, and sums their numbers.
type preference struct {
	pairs            int
	loss             float64
	chosen, rejected float64 // rewards
	right            int     // pairs whose chosen answer has the higher reward
	// Sums of log p of the answers.
	logpChosen, logpRejected float64
}

// logps are log p of the two answers of a pair.
type logps struct{ chosen, rejected float64 }

// add counts a pair.
func (p *preference) add(beta float64, trained, reference logps) {
	chosen, rejected := beta*(trained.chosen-reference.chosen), beta*(trained.rejected-reference.rejected)
	margin := chosen - rejected
	p.pairs++
	p.loss += math.Max(-margin, 0) + math.Log1p(math.Exp(-math.Abs(margin))) // -log σ, for any margin
	p.chosen += chosen
	p.rejected += rejected
	if chosen > rejected {
		p.right++
	}
	p.logpChosen += trained.chosen
	p.logpRejected += trained.rejected
}

// metrics are the means over the pairs, under TRL's names behind prefix.
func (p *preference) metrics(prefix string) map[string]float64 {
	n := float64(p.pairs)
	return map[string]float64{
		prefix + "rewards/chosen": p.chosen / n, prefix + "rewards/rejected": p.rejected / n,
		prefix + "rewards/margins": (p.chosen - p.rejected) / n, prefix + "rewards/accuracies": float64(p.right) / n,
		prefix + "logps/chosen": p.logpChosen / n, prefix + "logps/rejected": p.logpRejected / n,
	}
}

// ends are where the texts of a pack's pairs end in it, two of each.
func (s *rowSet) ends(pack []int32) []int32 {
	all, from := make([]int32, 0, 2*len(pack)), int32(0)
	for _, k := range pack {
		to := from + s.length[k]
		all = append(all, from+int32(s.halves.Split(int(s.rows[k]))), to)
		from = to
	}
	return all
}

// settlePairs counts the pairs of packs, of a step with so many, and returns their part of its loss: the mean over all pairs.
func (r *run) settlePairs(sums *preference, packs [][]int32, settled []model.PairLosses, pairs int) (loss float64) {
	for i, pack := range packs {
		before := sums.loss
		reference := r.plan.set.logps(settled[i].Reference, pack)
		for j, answers := range r.plan.set.logps(settled[i].Trained, pack) {
			sums.add(r.Beta, answers, reference[j])
		}
		loss += (sums.loss - before) / float64(pairs)
	}
	return loss
}

// reference is log p of a pack's answers by the base model.
func (r *run) reference(b model.Batch, set *rowSet, pack []int32) (all []logps, err error) {
	err = r.model.WithoutAdapters(func() error {
		_, err := r.model.Loss(b, 1)
		all = set.logps(r.model.TokenLosses(), pack)
		return err
	})
	return all, err
}

// logps sums the losses of a pack's tokens, one pair after the other.
func (s *rowSet) logps(losses []float32, pack []int32) []logps {
	all := make([]logps, len(pack))
	for i, k := range pack {
		n, split := int(s.length[k]), s.halves.Split(int(s.rows[k]))
		for _, v := range losses[:split] {
			all[i].chosen -= float64(v)
		}
		for _, v := range losses[split:n] {
			all[i].rejected -= float64(v)
		}
		losses = losses[n:]
	}
	return all
}

// preferences measures a validation set of pairs.
func (r *run) preferences(ctx context.Context, v *validationSet) (*preference, error) {
	var b batch
	sums := &preference{}
	for i, pack := range v.packs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		filled := b.fill(v.set, pack)
		if i == len(v.reference) {
			reference, err := r.reference(filled, v.set, pack)
			if err != nil {
				return nil, err
			}
			v.reference = append(v.reference, reference)
		}
		if _, err := r.model.Loss(filled, 1); err != nil {
			return nil, err
		}
		for j, answers := range v.set.logps(r.model.TokenLosses(), pack) {
			sums.add(r.Beta, answers, v.reference[i][j])
		}
	}
	return sums, nil
}
