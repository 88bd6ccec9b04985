package tokenizer

import (
	"cmp"
	"container/heap"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"unsafe"
)

// TrainOptions are the settings of Train.
type TrainOptions struct {
	VocabSize int                      // added tokens included; at least 256 and the added ones
	Texts     iter.Seq2[string, error] // the corpus; an error ends the training
	Added     []string                 // further special tokens behind <|endoftext|>, <|im_start|>, <|im_end|>
	Pattern   string                   // how text is split: a name of Patterns, or a regex; "": qwen2
	System    string                   // default system text of the template; "": Qwen2.5's
}

// Train learns a byte-level BPE vocabulary with Qwen2's pattern and NFC, as Hugging
// Face's BpeTrainer does (initial_alphabet ByteLevel.alphabet(), no added tokens):
// the most frequent pair merges next, of equals the one with the smaller ids. Ids
// are the 256 bytes, the merged tokens, then the added tokens. Equal input gives
// equal output. A corpus too small for VocabSize gives fewer tokens.
func Train(ctx context.Context, opts TrainOptions) (*Tokenizer, error) {
	added := trainedTokens(opts.Added)
	least := 256 + len(added)
	if opts.VocabSize < least || opts.VocabSize > maxID {
		return nil, fmt.Errorf("train tokenizer: vocabulary size %d; it must be %d to %d (256 bytes and %d added tokens at least)", opts.VocabSize, least, maxID, len(added))
	}
	pre, err := trainedSplit(opts.Pattern)
	if err != nil {
		return nil, fmt.Errorf("train tokenizer: %w", err)
	}
	words, err := countPretokens(ctx, pre, opts.Texts)
	if err != nil {
		return nil, fmt.Errorf("train tokenizer: %w", err)
	}
	tr := newTrainer(words)
	for len(tr.tokens) < opts.VocabSize-len(added) {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("train tokenizer: %w", err)
		}
		if !tr.step() {
			break
		}
	}
	return tr.tokenizer(added, opts.System, pre)
}

// Patterns are the names that TrainOptions.Pattern knows: how the models of that name
// split text.
var Patterns = [...]string{"qwen2", "llama3", "gpt2", "smollm"}

// trainedSplit returns the pre-tokenizer for a name or a regex.
func trainedSplit(name string) (*pretokenizer, error) {
	switch name {
	case "", "qwen2":
		return pretokenizerOf(splitPattern)
	case "llama3":
		return pretokenizerOf(llamaPattern)
	case "gpt2":
		return readPretokenizer(json.RawMessage(`{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}`))
	case "smollm":
		return readPretokenizer(json.RawMessage(`{"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]}`))
	}
	known := strings.Join(Patterns[:], ", ")
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-_") == "" {
		return nil, fmt.Errorf("no pattern is named %q; there are %s, or give a regex", name, known)
	}
	pre, err := pretokenizerOf(name)
	if err != nil {
		return nil, fmt.Errorf("the pattern is no name (%s), and as a regex: %w", known, err)
	}
	return pre, nil
}

// trainedTokens are the names of the added tokens, each once.
func trainedTokens(more []string) []string {
	names := []string{"<|endoftext|>", imStart, imEnd}
	for _, n := range more {
		if n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}

// countPretokens counts the pretokens of all texts, as the encoder would cut them.
func countPretokens(ctx context.Context, pre *pretokenizer, texts iter.Seq2[string, error]) (map[string]*int64, error) {
	counts := map[string]*int64{}
	count := func(piece []byte) {
		if c := counts[string(piece)]; c != nil {
			*c++
		} else {
			one := int64(1)
			counts[string(piece)] = &one
		}
	}
	var n normalizer
	var cutter pieceCutter
	tables := newClassTables()
	for text, err := range texts {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		s := unsafe.Slice(unsafe.StringData(text), len(text)) // read only
		valid, nfc := tables.inspect(s)
		if !valid {
			s, _ = appendValid(nil, s)
			_, nfc = tables.inspect(s)
		}
		if !nfc {
			s = n.appendNFC(nil, s)
		}
		cutter.cut(pre, s, count)
	}
	return counts, nil
}

// trainer holds every distinct pretoken as a list of ids, and for each pair how
// often it stands and in which pretokens.
type trainer struct {
	words  [][]int32
	counts []int64
	pairs  map[[2]int32]*pairCount
	queue  pairQueue
	tokens [][]byte         // by id
	ids    map[string]int32 // by bytes
	merges []pair
	merged map[[2]int32]bool
}

type pairCount struct {
	count int64
	words []int32 // may name a word twice, or one that has lost the pair
}

func newTrainer(words map[string]*int64) *trainer {
	tr := &trainer{pairs: map[[2]int32]*pairCount{}, ids: map[string]int32{}, merged: map[[2]int32]bool{}}
	alphabet := make([]byte, 256)
	for c := range alphabet {
		alphabet[c] = byte(c)
	}
	slices.SortFunc(alphabet, func(a, b byte) int { return cmp.Compare(byteChar(a), byteChar(b)) })
	for id, c := range alphabet {
		tr.tokens = append(tr.tokens, []byte{c})
		tr.ids[string([]byte{c})] = int32(id)
	}
	for _, w := range slices.Sorted(maps.Keys(words)) {
		ids := make([]int32, len(w))
		for i := range len(w) {
			ids[i] = tr.ids[w[i:i+1]]
		}
		at := int32(len(tr.words))
		tr.words, tr.counts = append(tr.words, ids), append(tr.counts, *words[w])
		for i := 1; i < len(ids); i++ {
			tr.change([2]int32{ids[i-1], ids[i]}, *words[w], at)
		}
	}
	for p, c := range tr.pairs {
		tr.queue = append(tr.queue, candidate{c.count, p})
	}
	heap.Init(&tr.queue)
	return tr
}

// change adds n to a pair's count; a pair that grows stands in the word.
func (tr *trainer) change(p [2]int32, n int64, word int32) {
	c := tr.pairs[p]
	if c == nil {
		c = &pairCount{}
		tr.pairs[p] = c
	}
	c.count += n
	if n > 0 && (len(c.words) == 0 || c.words[len(c.words)-1] != word) {
		c.words = append(c.words, word)
	}
}

// step merges the best pair; false means that none is left.
func (tr *trainer) step() bool {
	for len(tr.queue) > 0 {
		best := heap.Pop(&tr.queue).(candidate)
		c := tr.pairs[best.pair]
		if c.count != best.count { // it lost some since: wait for its turn
			if c.count > 0 {
				heap.Push(&tr.queue, candidate{c.count, best.pair})
			}
			continue
		}
		tr.merge(best.pair, c)
		return true
	}
	return false
}

// merge joins a pair everywhere. Two ways to the same bytes share one token.
func (tr *trainer) merge(p [2]int32, c *pairCount) {
	bytes := slices.Concat(tr.tokens[p[0]], tr.tokens[p[1]])
	to, ok := tr.ids[string(bytes)]
	if !ok {
		to = int32(len(tr.tokens))
		tr.tokens = append(tr.tokens, bytes)
		tr.ids[string(bytes)] = to
	}
	if !tr.merged[p] {
		tr.merged[p] = true
		tr.merges = append(tr.merges, pair{p[0], p[1], to})
	}
	words := c.words
	c.words, c.count = nil, 0
	grown := map[[2]int32]bool{}
	for _, w := range words {
		tr.mergeWord(p, to, w, grown)
	}
	c.count = 0 // what overlapping occurrences took from it, "aaa", is of no meaning now
	for g := range grown {
		if n := tr.pairs[g].count; n > 0 {
			heap.Push(&tr.queue, candidate{n, g})
		}
	}
}

// mergeWord joins p in one word, left to right, and counts the pairs that this
// makes and unmakes.
func (tr *trainer) mergeWord(p [2]int32, to, word int32, grown map[[2]int32]bool) {
	ids, n := tr.words[word], tr.counts[word]
	out := ids[:0]
	for i := 0; i < len(ids); i++ {
		if ids[i] != p[0] || i+1 == len(ids) || ids[i+1] != p[1] {
			out = append(out, ids[i])
			continue
		}
		if len(out) > 0 {
			before := out[len(out)-1]
			tr.change([2]int32{before, p[0]}, -n, word)
			tr.change([2]int32{before, to}, n, word)
			grown[[2]int32{before, to}] = true
		}
		if i+2 < len(ids) {
			tr.change([2]int32{p[1], ids[i+2]}, -n, word)
			tr.change([2]int32{to, ids[i+2]}, n, word)
			grown[[2]int32{to, ids[i+2]}] = true
		}
		out = append(out, to)
		i++
	}
	tr.words[word] = out
}

// tokenizer makes the tokenizer that was learned.
func (tr *trainer) tokenizer(names []string, system string, pre *pretokenizer) (*Tokenizer, error) {
	b := newBuilder()
	b.v.pre = pre
	for id, t := range tr.tokens {
		if err := b.token([]byte(spell(t)), int32(id)); err != nil {
			return nil, fmt.Errorf("train tokenizer: %w", err)
		}
	}
	if err := b.finishTokens(); err != nil {
		return nil, fmt.Errorf("train tokenizer: %w", err)
	}
	b.v.pairs = tr.merges
	var list []addedToken
	next := int32(len(tr.tokens))
	for _, name := range names {
		// A corpus of chats can make the vocabulary learn a control text whole.
		id, learned := tr.ids[name]
		if !learned {
			id = next
			next++
		}
		known := slices.Index(qwenAdded[:], name)
		list = append(list, addedToken{Content: name, ID: id, Special: known < qwenSpecial})
	}
	if err := b.add(list); err != nil {
		return nil, fmt.Errorf("train tokenizer: %w", err)
	}
	t := &Tokenizer{v: b.finish(), template: qwenTemplate()}
	if system != "" {
		t.template = templateWith(system)
	}
	t.eos, _ = t.Token(imEnd)
	t.pad, _ = t.Token("<|endoftext|>")
	return t, nil
}

// candidate is a pair in the queue, with the count that it had when it came in.
type candidate struct {
	count int64
	pair  [2]int32
}

type pairQueue []candidate

func (q pairQueue) Len() int { return len(q) }

func (q pairQueue) Less(i, j int) bool {
	if q[i].count != q[j].count {
		return q[i].count > q[j].count
	}
	return slices.Compare(q[i].pair[:], q[j].pair[:]) < 0
}

func (q pairQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

func (q *pairQueue) Push(x any) { *q = append(*q, x.(candidate)) }

func (q *pairQueue) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	*q = (*q)[:last]
	return x
}
