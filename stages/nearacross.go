package stages

import "context"

// mostKinds are how many kinds of signature of one band a row is compared with by across. Ten thousands of prompts that are half
// alike, a preamble and a question say, have many such in a band; comparing all with all would take days.
const mostKinds = 512

// across calls like for the pairs of rows that share a band, are alike, and stand in two sets. What like drops by changing sets
// is not compared further. Of a band that has rows in two sets, the rows of one kind of signature in one set are one. It returns
// how many rows came behind mostKinds kinds in a band of theirs and were compared with those alone.
func (c *clusterer) across(ctx context.Context, sets []int8, like func(earlier, later uint64) error) (partly int64, err error) {
	late := map[uint64]bool{}
	for rows, err := range c.bands.groups(ctx) {
		if err != nil {
			return 0, err
		}
		if oneSet(rows, sets) {
			continue
		}
		b := band{clusterer: c, sets: sets, kinds: map[kind]uint64{}}
		for n, row := range rows {
			if n%mostKinds == 0 && ctx.Err() != nil {
				return 0, ctx.Err()
			}
			all, err := b.compare(row, like)
			if err != nil {
				return 0, err
			}
			if !all {
				late[row] = true
			}
		}
	}
	return int64(len(late)), nil
}

// band is the rows of a band that across has seen.
type band struct {
	*clusterer
	sets  []int8
	kinds map[kind]uint64 // its first row
	order []kind
}

// kind is what rows have in common that need not be compared one by one.
type kind struct {
	sig [permutations]byte
	set int8
}

// compare compares a row with the kinds before it; all says that there were no others.
func (b *band) compare(row uint64, like func(earlier, later uint64) error) (all bool, err error) {
	if b.sets[row] < 0 {
		return true, nil
	}
	one := kind{set: b.sets[row]}
	if err := b.bytesOf(row, &one.sig); err != nil {
		return false, err
	}
	for i := range b.order {
		other := &b.order[i]
		if other.set == one.set || similarity(&other.sig, &one.sig) < b.near.Threshold {
			continue
		}
		if err := like(b.kinds[*other], row); err != nil {
			return false, err
		}
		if b.sets[row] < 0 {
			return true, nil
		}
	}
	if _, known := b.kinds[one]; known {
		return true, nil
	}
	if len(b.order) == mostKinds {
		return false, nil
	}
	b.kinds[one] = row
	b.order = append(b.order, one)
	return true, nil
}

// oneSet says whether the rows that have a set all have the same.
func oneSet(rows []uint64, sets []int8) bool {
	set := int8(-1)
	for _, row := range rows {
		if at := sets[row]; at >= 0 {
			if set >= 0 && at != set {
				return false
			}
			set = at
		}
	}
	return true
}
