package stages

import (
	"context"
	"errors"

	"lpipe/dataset"
)

// addAnswer notes a row's prompt and the answer that its response gives, if it gives one.
func (f *firstPass) addAnswer(r *dataset.Row, row int64) {
	answer, ok := lastBoxed(afterThink(r.Response()))
	prompt := r.Prompt()
	if !ok || prompt == "" {
		return
	}
	hi, _ := promptHash(prompt)
	f.answers = append(f.answers, pair{hi, answerHash(answer), uint64(row)})
}

// answerHash is the same for answers that sameAnswer takes for the same.
func answerHash(answer string) uint64 {
	plain := plainAnswer(answer)
	if n, ok := numberOf(plain); ok {
		plain = n.RatString()
	}
	hi, _ := textHash(plain)
	return hi
}

// otherAnswers maps each row of a prompt that came with several answers to the first row with another than its own. In a
// sorted pair hi is the prompt's hash and lo the answer's.
func (s *seen) otherAnswers(ctx context.Context) (*rowMap, error) {
	firsts := newSorter(s.scratch)
	defer firsts.close()
	if err := s.firstAnswers(ctx, firsts); err != nil {
		return nil, err
	}
	next, stop := newPuller(ctx, firsts)
	defer stop()
	var one, two pair // of the prompt in hand, or of the next that has two
	take := func() (more bool, err error) {
		if one, more, err = next(); more && err == nil {
			two, more, err = next()
		}
		return more, err
	}
	other := newRowMap(s.scratch)
	more, failed := take()
	for p, err := range s.answers.sorted(ctx) {
		for failed == nil && more && one.hi < p.hi {
			more, failed = take()
		}
		if err = errors.Join(err, failed); err != nil {
			return nil, err
		}
		if !more {
			break
		}
		if one.hi != p.hi {
			continue
		}
		first := min(one.row, two.row)
		switch p.lo {
		case one.lo:
			first = two.row
		case two.lo:
			first = one.row
		}
		if err := other.add(p.row, first); err != nil {
			return nil, err
		}
	}
	return other, errors.Join(failed, other.freeze(ctx))
}

// firstAnswers adds to firsts, of each prompt with several answers, the first rows of the two answers that came first.
func (s *seen) firstAnswers(ctx context.Context, firsts *sorter) error {
	var one, two, last pair // row 0: none
	settle := func() error {
		if two.row == 0 {
			return nil
		}
		return errors.Join(firsts.add(one), firsts.add(two))
	}
	for p, err := range s.answers.sorted(ctx) {
		if err != nil {
			return err
		}
		if p.hi != last.hi {
			if err := settle(); err != nil {
				return err
			}
			one, two, last = pair{}, pair{}, pair{}
		}
		if p.lo != last.lo || last.row == 0 { // an answer's first row
			switch {
			case one.row == 0:
				one = p
			case p.row < one.row:
				one, two = p, one
			case two.row == 0 || p.row < two.row:
				two = p
			}
		}
		last = p
	}
	return settle()
}
