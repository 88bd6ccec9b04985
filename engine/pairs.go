package engine

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/zeebo/blake3"

	"lpipe/dataset"
	"lpipe/engine/tokenizer"
)

// pairs are preference pairs as token ids: what method dpo trains on and validates with. Row i is two texts, the chosen one and
// behind it the rejected one, each with the prompt before it; what stands behind the prompt is trained on.
type pairs struct {
	manifest dataset.Manifest
	ids      []int32 // of each pair: prompt, chosen, rejected
	list     []pair
}

// pair is where one pair stands, in tokens.
type pair struct {
	id                       string
	at                       int // in ids
	prompt, chosen, rejected int // lengths
}

// Len is the number of pairs.
func (p *pairs) Len() int { return len(p.list) }

// ID is the row's id, or its place in the file.
func (p *pairs) ID(i int) string { return p.list[i].id }

// Answer is empty: a preference has no reference answer.
func (p *pairs) Answer(int) string { return "" }

// Manifest describes the pairs as that of a token folder does.
func (p *pairs) Manifest() dataset.Manifest { return p.manifest }

// Close has nothing to close.
func (p *pairs) Close() error { return nil }

// Split is the length of row i's first text.
func (p *pairs) Split(i int) int { return p.list[i].prompt + p.list[i].chosen }

// IDs appends both texts of pair i.
func (p *pairs) IDs(i int, dst []int32) []int32 {
	one := p.list[i]
	prompt := p.ids[one.at:][:one.prompt]
	answers := p.ids[one.at+one.prompt:][:one.chosen+one.rejected]
	return slices.Concat(dst, prompt, answers[:one.chosen], prompt, answers[one.chosen:])
}

// Mask appends which of their tokens are trained on: those behind the prompt.
func (p *pairs) Mask(i int, dst []bool) []bool {
	for _, answer := range []int{p.list[i].chosen, p.list[i].rejected} {
		for range p.list[i].prompt {
			dst = append(dst, false)
		}
		for range answer {
			dst = append(dst, true)
		}
	}
	return dst
}

// pairReader turns rows of preferences into ids, as TRL's DPOTrainer does: messages by the chat template, texts as they stand
// with the end token behind them.
type pairReader struct {
	tok      *tokenizer.Tokenizer
	encoder  *tokenizer.Encoder
	eos      string
	capacity int  // tokens that both texts of a pair have together
	truncate bool // cut longer ones, instead of leaving them out
	out      *pairs
	notes    map[string]*noted
}

// noted is something that happened to several pairs.
type noted struct {
	count int64
	first string
}

// readPairs reads a file of preferences: rows with prompt, chosen and rejected, texts or lists of messages. Pairs that cannot
// be learned from are left out, and log says how many of which kind; when none is left that is an error.
func readPairs(path, modelDir string, capacity int, truncate bool, logf func(string, ...any)) (*pairs, error) {
	tok, err := loadTokenizer(modelDir)
	if err != nil {
		return nil, err
	}
	if tok == nil {
		return nil, fmt.Errorf("preferences are texts, and %s has no tokenizer to read them with: add tokenizer.json, or vocab.json and merges.txt", modelDir)
	}
	r := &pairReader{tok: tok, encoder: tok.NewEncoder(), capacity: capacity, truncate: truncate, notes: map[string]*noted{}, out: &pairs{}}
	if id := tok.EOS(); id >= 0 {
		r.eos = string(tok.Bytes(id))
	}
	rows, err := r.read(path)
	if err != nil {
		return nil, err
	}
	said := r.said()
	for _, line := range said {
		logf("%s", line)
	}
	switch {
	case rows == 0:
		return nil, fmt.Errorf("%s holds no pairs: the file is empty", path)
	case r.out.Len() == 0:
		return nil, fmt.Errorf("%s: none of its %d pairs can be trained on: %s", path, rows, strings.Join(said, "; "))
	}
	r.describe()
	return r.out, nil
}

func (r *pairReader) note(what, where string) {
	n := r.notes[what]
	if n == nil {
		n = &noted{first: where}
		r.notes[what] = n
	}
	n.count++
}

func (r *pairReader) said() (lines []string) {
	for what, n := range r.notes {
		lines = append(lines, fmt.Sprintf("%d pairs %s, the first is %s", n.count, what, n.first))
	}
	slices.Sort(lines)
	return lines
}

// read adds the pairs of a file and returns its number of rows.
func (r *pairReader) read(path string) (rows int, err error) {
	file, err := dataset.Open(path, "id", "prompt", "chosen", "rejected", "tools", "license")
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for {
		batch, err := file.Next()
		if errors.Is(err, io.EOF) {
			return rows, nil
		} else if err != nil {
			return rows, err
		}
		records, err := batch.Records()
		if err != nil {
			return rows, err
		}
		for i, record := range records {
			if err := r.add(record, rows, batch.Where(i)); err != nil {
				return rows, fmt.Errorf("%s: %w", batch.Where(i), err)
			}
			rows++
		}
	}
}

// add takes one row, unless there is nothing to learn from it.
func (r *pairReader) add(record dataset.Record, row int, where string) error {
	whole, err := r.encode(record)
	if err != nil {
		return err
	}
	one := pair{id: record.Get("id").String(), at: len(r.out.ids), prompt: common(whole.prompt, whole.chosen, whole.rejected)}
	if one.id == "" {
		one.id = fmt.Sprint(row)
	}
	if 0 < one.prompt && one.prompt < len(whole.prompt) {
		r.note("have a prompt that reads otherwise when an answer follows: the answer begins where they part", where)
	}
	switch {
	case len(whole.prompt) == 0:
		return errors.New("the prompt is empty: the first token of an answer needs something before it")
	case one.prompt == 0:
		return errors.New("no token of the prompt stays when an answer follows, since they become one: end the prompt where a word ends")
	}
	chosen, rejected := r.fit(whole, one.prompt, where)
	if chosen == nil {
		return nil
	}
	one.chosen, one.rejected = len(chosen)-one.prompt, len(rejected)-one.prompt
	r.out.ids = slices.Concat(r.out.ids, chosen, rejected[one.prompt:])
	r.out.list = append(r.out.list, one)
	if license := record.Get("license").String(); license != "" {
		if r.out.manifest.Licenses == nil {
			r.out.manifest.Licenses = map[string]int64{}
		}
		r.out.manifest.Licenses[license]++
	}
	return nil
}

// fit cuts the texts of a pair to what a pack holds. It returns nothing, and notes why, where nothing can be learned from them.
func (r *pairReader) fit(whole encoded, prompt int, where string) (chosen, rejected []int32) {
	chosen, rejected = whole.chosen, whole.rejected
	if len(chosen)+len(rejected) > r.capacity {
		limit := r.capacity / 2
		if !r.truncate || prompt >= limit {
			r.note(fmt.Sprintf("are left out: both texts have more than %d tokens together", r.capacity), where)
			return nil, nil
		}
		chosen, rejected = chosen[:min(limit, len(chosen))], rejected[:min(limit, len(rejected))]
		r.note(fmt.Sprintf("are cut to %d tokens a text", limit), where)
	}
	switch {
	case slices.Equal(chosen, rejected):
		r.note("are left out: chosen and rejected are the same", where)
		return nil, nil
	case len(chosen) == prompt || len(rejected) == prompt: // an answer is how the prompt ends
		r.note("are left out: an answer is empty", where)
		return nil, nil
	}
	return chosen, rejected
}

// encoded is a pair as ids: the prompt alone, and with each of the answers.
type encoded struct{ prompt, chosen, rejected []int32 }

func (r *pairReader) encode(record dataset.Record) (e encoded, err error) {
	prompt, chosen, rejected := record.Get("prompt"), record.Get("chosen"), record.Get("rejected")
	for _, column := range []struct {
		name  string
		value dataset.Value
	}{{"chosen", chosen}, {"rejected", rejected}} {
		if column.value.Shape == dataset.Null {
			return e, fmt.Errorf("column %s is missing or null: a preference has prompt, chosen and rejected", column.name)
		}
	}
	switch {
	case chosen.Shape == dataset.List && rejected.Shape == dataset.List && (prompt.Shape == dataset.List || prompt.Shape == dataset.Null):
		return r.encodeChat(prompt, chosen, rejected, record.Get("tools"))
	case chosen.Shape == dataset.Text && rejected.Shape == dataset.Text && prompt.Shape == dataset.Text:
		return r.encodeTexts(prompt.Text, chosen.Text, rejected.Text)
	}
	return e, fmt.Errorf("prompt is %s, chosen %s, rejected %s: all three must be texts, or all lists of messages (prompt may then be "+
		"left out, and is what both begin with)", prompt.Shape, chosen.Shape, rejected.Shape)
}

// encodeTexts takes texts as they stand, control tokens in them included, and ends both with the end token.
func (r *pairReader) encodeTexts(prompt, chosen, rejected string) (e encoded, err error) {
	if chosen == "" || rejected == "" {
		return e, errors.New("chosen or rejected is empty")
	}
	answer := func(text string) []int32 {
		if r.eos != "" && !strings.HasSuffix(text, r.eos) {
			text += r.eos
		}
		return r.encoder.Encode(nil, prompt+text, true)
	}
	return encoded{r.encoder.Encode(nil, prompt, true), answer(chosen), answer(rejected)}, nil
}

// encodeChat renders conversations by the chat template: the prompt ends where an answer would begin.
func (r *pairReader) encodeChat(prompt, chosen, rejected, tools dataset.Value) (e encoded, err error) {
	var parts [3][]tokenizer.Message
	for i, v := range []dataset.Value{prompt, chosen, rejected} {
		messages, err := dataset.MessagesOf(v)
		if err != nil {
			return e, fmt.Errorf("%s: %w", []string{"prompt", "chosen", "rejected"}[i], err)
		}
		for _, m := range messages {
			parts[i] = append(parts[i], tokenizer.Message{Role: m.Role, Content: m.Content, ToolCalls: m.ToolCalls})
		}
	}
	if prompt.Shape == dataset.Null {
		parts = implicit(parts)
	}
	if len(parts[0]) == 0 || len(parts[1]) == 0 || len(parts[2]) == 0 {
		return e, errors.New("prompt, chosen or rejected has no message")
	}
	var list []json.RawMessage
	if tools.Shape != dataset.Null {
		if err := json.Unmarshal(tools.JSON(), &list); err != nil {
			return e, fmt.Errorf("tools is no list: %w", err)
		}
	}
	render := func(messages []tokenizer.Message, question bool) []int32 {
		if err != nil {
			return nil
		}
		var out tokenizer.Rendered
		out, err = r.encoder.Render(tokenizer.Chat{Messages: messages, Tools: list, AddGenerationPrompt: question})
		return out.IDs
	}
	e.prompt = render(parts[0], true)
	e.chosen, e.rejected = render(slices.Concat(parts[0], parts[1]), false), render(slices.Concat(parts[0], parts[2]), false)
	return e, err
}

// implicit takes what both conversations begin with as their prompt.
func implicit(parts [3][]tokenizer.Message) [3][]tokenizer.Message {
	chosen, rejected := parts[1], parts[2]
	same := 0
	for same < min(len(chosen), len(rejected)) && equalMessage(chosen[same], rejected[same]) {
		same++
	}
	return [3][]tokenizer.Message{chosen[:same], chosen[same:], rejected[same:]}
}

func equalMessage(a, b tokenizer.Message) bool {
	return a.Role == b.Role && a.Content == b.Content && string(a.ToolCalls) == string(b.ToolCalls)
}

// common is the length of what all three begin with.
func common(prompt, chosen, rejected []int32) int {
	n := min(len(prompt), len(chosen), len(rejected))
	for i := range n {
		if prompt[i] != chosen[i] || prompt[i] != rejected[i] {
			return i
		}
	}
	return n
}

// describe fills the manifest; the hash stands for the content.
func (r *pairReader) describe() {
	m := &r.out.manifest
	m.Tokenizer, m.Template, m.VocabSize = r.tok.Fingerprint(), r.tok.TemplateFingerprint(), r.tok.VocabSize()
	h := blake3.New()
	for i, one := range r.out.list {
		both := 2*one.prompt + one.chosen + one.rejected
		m.Tokens += int64(both)
		m.Trained += int64(one.chosen + one.rejected)
		m.Longest = max(m.Longest, both)
		fmt.Fprintf(h, "%d %d %d\n", one.prompt, one.chosen, one.rejected)
		binary.Write(h, binary.LittleEndian, r.out.IDs(i, nil)) // a hash takes everything
	}
	m.Sequences = int64(len(r.out.list))
	m.Files = map[string]dataset.FileSize{"pairs": {Size: 4 * m.Tokens, BLAKE3: hex.EncodeToString(h.Sum(nil))}}
}
