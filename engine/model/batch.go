package model

import "fmt"

// Ignored is the label of a token that is not trained on, as in transformers.
const Ignored = -100

// Padding is the sequence of a token that belongs to no document: it is computed alone and never a target.
const Padding = -1

// Batch is B rows of T tokens, each row one document, several (packed), or some with padding. All slices have
// B·T entries, row after row.
type Batch struct {
	B, T int
	IDs  []int32
	// Labels holds at t the token id that position t-1 should predict, or Ignored, as in transformers: it is
	// IDs with the tokens that are not trained on replaced. A document's first label is never a target. Nil:
	// every token is trained on.
	Labels []int32
	// Positions are what the rotary embedding sees. Nil: counted from 0 in each row.
	Positions []int32
	// Sequence numbers the documents; a token sees those before it with its own number. The tokens of a
	// document stand together, in one row; Padding may stand anywhere. Nil: a document begins with each row
	// and wherever Positions do not go up by one.
	Sequence []int32
	// Seed names the dropout masks of Step: it must differ for every step and micro-batch.
	Seed uint64
}

// Targets counts the tokens that a batch trains on: what Step's loss is the sum over.
func (b Batch) Targets() int {
	n := 0
	for i := range b.IDs {
		if b.target(i) >= 0 {
			n++
		}
	}
	return n
}

// begins says whether token i is the first of its document.
func (b Batch) begins(i int) bool {
	switch {
	case i%b.T == 0:
		return true
	case b.Sequence != nil:
		return b.Sequence[i] == Padding || b.Sequence[i] != b.Sequence[i-1]
	case b.Positions != nil:
		return b.Positions[i] != b.Positions[i-1]+1
	}
	return false
}

// target is the token that i should predict, or -1.
func (b Batch) target(i int) int32 {
	if i+1 >= len(b.IDs) || b.begins(i+1) {
		return -1
	}
	label := b.IDs[i+1]
	if b.Labels != nil {
		label = b.Labels[i+1]
	}
	if label == Ignored {
		return -1
	}
	return label
}

// check says what is wrong with a batch for a vocabulary of V tokens.
func (b Batch) check(V int) error {
	n := b.B * b.T
	if b.B <= 0 || b.T <= 0 {
		return fmt.Errorf("batch of %d rows of %d tokens: both must be at least 1", b.B, b.T)
	}
	for _, s := range []struct {
		name string
		n    int
		must bool
	}{
		{"ids", len(b.IDs), true}, {"labels", len(b.Labels), b.Labels != nil},
		{"positions", len(b.Positions), b.Positions != nil}, {"sequences", len(b.Sequence), b.Sequence != nil},
	} {
		if s.must && s.n != n {
			return fmt.Errorf("batch of %d rows of %d tokens has %d %s, not %d", b.B, b.T, s.n, s.name, n)
		}
	}
	for i := range n {
		if id := b.IDs[i]; id < 0 || int(id) >= V {
			return fmt.Errorf("token %d of row %d has the id %d, but the model's vocabulary has %d tokens: the tokens were made by another tokenizer", i%b.T, i/b.T, id, V)
		}
		if b.Labels != nil {
			if l := b.Labels[i]; l != Ignored && (l < 0 || int(l) >= V) {
				return fmt.Errorf("token %d of row %d has the label %d, which is neither a token below %d nor %d", i%b.T, i/b.T, l, V, Ignored)
			}
		}
		if b.Positions != nil && b.Positions[i] < 0 {
			return fmt.Errorf("token %d of row %d has the position %d", i%b.T, i/b.T, b.Positions[i])
		}
	}
	return nil
}

// layout fills what the device needs to know of each token: position, first token of its document, target.
func (b Batch) layout(positions, starts, targets []int32) {
	start := 0
	for i := range b.IDs {
		if b.begins(i) {
			start = i
		}
		starts[i] = int32(start)
		targets[i] = b.target(i)
		if b.Positions != nil {
			positions[i] = b.Positions[i]
		} else {
			positions[i] = int32(i % b.T)
		}
	}
}
