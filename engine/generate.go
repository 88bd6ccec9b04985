package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"lpipe/engine/model"
)

// GenerateOptions say how texts are continued.
type GenerateOptions struct {
	Sampling
	MaxTokens int     // of a continuation; must be above 0. The model's longest sequence is a limit too
	Stop      []int32 // tokens that end one; the token itself is kept
	Seed      uint64  // decides what is drawn, together with the prompt's number and the token's place
	AtOnce    int     // sequences decoded together; 0: 64, as far as 1 GiB of keys and values goes
}

// Continuation is what a model wrote behind a prompt.
type Continuation struct {
	IDs     []int32
	Stopped bool // by a stop token; otherwise it is cut off
}

// maxCache bounds the keys and values of all sequences together. It is no setting: with it, which sequences are
// decoded together would depend on the machine.
const maxCache = 1 << 30

// Generate continues prompts and hands each continuation to yield when it is done, in the order in which they
// end. Sequences are decoded together; when one ends, the next prompt takes its place.
func Generate(ctx context.Context, m *model.Model, prompts [][]int32, o GenerateOptions, yield func(i int, c Continuation) error) error {
	limit := m.Config.MaxPositions
	if limit == 0 {
		limit = math.MaxInt32
	}
	if err := o.check(prompts, limit); err != nil || len(prompts) == 0 {
		return err
	}
	g := &generator{GenerateOptions: o, model: m, prompts: prompts, yield: yield, limit: limit}
	length := 0
	for _, p := range prompts {
		length = max(length, min(len(p)+o.MaxTokens, limit))
	}
	cache, err := m.NewCache(o.slots(m.Config, len(prompts), length), length)
	if err != nil {
		return err
	}
	defer cache.Free()
	g.cache = cache
	for slot := range cache.Slots {
		g.free = append(g.free, slot)
	}
	return g.run(ctx)
}

func (o GenerateOptions) check(prompts [][]int32, limit int) error {
	if o.MaxTokens < 1 {
		return fmt.Errorf("max_tokens: must be at least 1, not %d", o.MaxTokens)
	}
	for i, p := range prompts {
		if len(p) == 0 {
			return fmt.Errorf("prompt %d is empty", i)
		}
		if len(p) >= limit {
			return fmt.Errorf("prompt %d has %d tokens, which leaves no room in the model's longest sequence of %d", i, len(p), limit)
		}
	}
	return o.Sampling.Check()
}

func (o GenerateOptions) slots(c model.Config, prompts, length int) int {
	slots := 64
	if o.AtOnce > 0 {
		slots = o.AtOnce
	}
	one := c.Layers * 2 * c.KV * c.D * length * 4 // bytes
	return max(1, min(slots, prompts, maxCache/one))
}

// generator is one call of Generate.
type generator struct {
	GenerateOptions
	model   *model.Model
	cache   *model.Cache
	prompts [][]int32
	yield   func(int, Continuation) error
	limit   int // tokens of prompt and continuation together

	next  int // prompt not yet begun
	free  []int
	lanes []*lane
	feeds []model.Feed
}

// lane is a sequence being continued in a slot of the cache.
type lane struct {
	sampler
	prompt, slot int
	random       random
	out          []int32
	seen         []int32 // prompt and out, where a penalty needs them
	last         [1]int32
}

// run begins prompts when a quarter of the slots is free, since a pass over few tokens costs nearly as much as one
// over many, and otherwise makes one token more of every lane.
func (g *generator) run(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		waiting := len(g.prompts) - g.next
		if waiting > 0 && (len(g.lanes) == 0 || 4*len(g.free) >= g.cache.Slots || len(g.free) >= waiting) {
			if err := g.begin(); err != nil {
				return err
			}
			continue
		}
		if len(g.lanes) == 0 {
			return nil
		}
		if err := g.advance(g.lanes); err != nil {
			return err
		}
	}
}

// prefillTokens bounds the prompts of one pass.
const prefillTokens = 4096

// begin gives free slots to the next prompts and makes their first tokens.
func (g *generator) begin() error {
	var begun []*lane
	for tokens := 0; len(g.free) > 0 && g.next < len(g.prompts); g.next++ {
		prompt := g.prompts[g.next]
		if tokens += len(prompt); tokens > prefillTokens && len(begun) > 0 {
			break
		}
		slot := g.free[len(g.free)-1]
		g.free = g.free[:len(g.free)-1]
		g.cache.Reset(slot)
		l := &lane{prompt: g.next, slot: slot, random: newRandom(g.Seed, forSampling, uint64(g.next))}
		l.Sampling = g.Sampling
		if p := g.RepetitionPenalty; p != 0 && p != 1 {
			l.seen = slices.Clone(prompt)
		}
		begun = append(begun, l)
	}
	g.lanes = append(g.lanes, begun...)
	return g.advance(begun)
}

// advance makes the next token of lanes: behind the prompt, or behind the token made last.
func (g *generator) advance(lanes []*lane) error {
	g.feeds = g.feeds[:0]
	for _, l := range lanes {
		ids := l.last[:]
		if len(l.out) == 0 {
			ids = g.prompts[l.prompt]
		}
		g.feeds = append(g.feeds, model.Feed{Slot: l.slot, IDs: ids})
	}
	logits, err := g.model.Decode(g.cache, g.feeds)
	if err != nil {
		return err
	}
	V := g.model.Config.V
	for i, l := range lanes {
		if math.IsNaN(float64(logits[i*V])) { // then all are: it came from what they have in common
			return errors.New("the logits are NaN: weights of the model, or of its adapter, are no numbers: take their files again")
		}
		id := l.next(logits[i*V:(i+1)*V], l.seen, l.random.unit(uint64(len(l.out))))
		l.out = append(l.out, id)
		l.last[0] = id
		if l.seen != nil {
			l.seen = append(l.seen, id)
		}
	}
	return g.end()
}

// end hands out the lanes that are done and frees their slots.
func (g *generator) end() error {
	kept := g.lanes[:0]
	for _, l := range g.lanes {
		stopped := len(l.out) > 0 && slices.Contains(g.Stop, l.out[len(l.out)-1])
		full := len(l.out) >= g.MaxTokens || len(g.prompts[l.prompt])+len(l.out) >= g.limit
		if !stopped && !full {
			kept = append(kept, l)
			continue
		}
		g.free = append(g.free, l.slot)
		if err := g.yield(l.prompt, Continuation{l.out, stopped}); err != nil {
			return err
		}
	}
	clear(g.lanes[len(kept):])
	g.lanes = kept
	return nil
}
