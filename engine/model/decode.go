package model

import (
	"fmt"

	"lpipe/engine/ops"
)

// Cache holds the keys and values of several sequences, so that each further token costs one pass over
// itself alone. Sequences of different lengths are decoded together.
type Cache struct {
	Slots, Length int // sequences at once; tokens that one can have

	model  *Model
	memory ops.Buf
	layers []ops.Buf
	used   []int // tokens in each slot
	fresh  bool  // every sequence of the pass in progress begins with it: attention need not read the cache
}

// Feed is tokens that follow what a slot of a cache holds.
type Feed struct {
	Slot int
	IDs  []int32
}

// NewCache makes room for slots sequences of at most length tokens. Free gives it back.
func (m *Model) NewCache(slots, length int) (*Cache, error) {
	if slots < 1 || length < 1 {
		return nil, fmt.Errorf("cache of %d sequences of %d tokens: both must be at least 1", slots, length)
	}
	c := &Cache{Slots: slots, Length: length, model: m, used: make([]int, slots)}
	size := slots * ops.CacheSize(length, m.Config.KV, m.Config.D)
	c.memory = m.dev.Alloc(size * m.Config.Layers)
	if err := m.dev.Err(); err != nil {
		return nil, fmt.Errorf("cache of %d sequences of %d tokens: %w", slots, length, err)
	}
	for i := range m.Config.Layers {
		c.layers = append(c.layers, c.memory.Slice(i*size, (i+1)*size))
	}
	return c, nil
}

// Free gives the cache's memory back to the device.
func (c *Cache) Free() { c.model.dev.Free(c.memory) }

// Len is the number of tokens that a slot holds.
func (c *Cache) Len(slot int) int { return c.used[slot] }

// Reset empties a slot for another sequence.
func (c *Cache) Reset(slot int) { c.used[slot] = 0 }

// Keep forgets what a slot holds beyond its first n tokens.
func (c *Cache) Keep(slot, n int) { c.used[slot] = min(c.used[slot], n) }

// Decode appends tokens to slots of the cache and returns the logits that follow the last token of each feed,
// [len(feeds), V]; they are valid until the next call. A slot may stand in one feed only. After an error about
// a feed nothing was appended.
func (m *Model) Decode(c *Cache, feeds []Feed) ([]float32, error) {
	n, err := m.checkFeeds(c, feeds)
	if err != nil {
		return nil, err
	}
	if err := m.reserve(n, false); err != nil {
		return nil, err
	}
	m.reserveLogits(len(feeds))
	if err := m.dev.Failed(); err != nil {
		return nil, err
	}
	m.feed(c, feeds, n)
	if m.Method != Frozen && c.fresh { // weights do not change while a sequence is written
		m.gains()
	}
	m.dropout(0, 0)
	m.forwardCached(c, n)
	logits := m.headLogits(m.host.rows[:len(feeds)])
	return logits, m.dev.Failed()
}

// decoding names passes that call the same operations on the same buffers.
type decoding struct {
	cache *Cache
	n     int
	bare  bool
}

// forwardCached is forward for n tokens, from a recording where the device has one.
func (m *Model) forwardCached(c *Cache, n int) {
	d, ok := m.dev.(ops.Repeater)
	if !ok || c.fresh || n > fewTokens { // prompts have many lengths, and take long enough
		m.forward(c)
		return
	}
	d.Repeat(decoding{c, n, m.bare}, func() { m.forward(c) })
}

// fewTokens is up to how many tokens a pass may take no longer than telling the device of it.
const fewTokens = 32

func (m *Model) checkFeeds(c *Cache, feeds []Feed) (tokens int, err error) {
	seen := map[int]bool{}
	for _, f := range feeds {
		switch {
		case f.Slot < 0 || f.Slot >= c.Slots || seen[f.Slot]:
			return 0, fmt.Errorf("slot %d of a cache of %d does not exist or stands twice", f.Slot, c.Slots)
		case len(f.IDs) == 0:
			return 0, fmt.Errorf("slot %d of a cache: no tokens to append", f.Slot)
		case c.used[f.Slot]+len(f.IDs) > c.Length:
			return 0, fmt.Errorf("slot %d of a cache: %d tokens and %d more do not fit into %d", f.Slot, c.used[f.Slot], len(f.IDs), c.Length)
		}
		for i, id := range f.IDs {
			if id < 0 || int(id) >= m.Config.V {
				return 0, fmt.Errorf("token %d of a sequence has the id %d, but the model's vocabulary has %d tokens: the tokens were made by another tokenizer", i, id, m.Config.V)
			}
		}
		seen[f.Slot] = true
		tokens += len(f.IDs)
	}
	if tokens == 0 {
		return 0, fmt.Errorf("nothing to decode")
	}
	return tokens, nil
}

// feed brings tokens to the device, with their places in the cache, and notes the last token of each feed.
func (m *Model) feed(c *Cache, feeds []Feed, n int) {
	h, i := &m.host, 0
	c.fresh = true
	for k, f := range feeds {
		start := int32(i)
		c.fresh = c.fresh && c.used[f.Slot] == 0
		for j, id := range f.IDs {
			h.ids[i], h.positions[i] = id, int32(c.used[f.Slot]+j)
			h.starts[i], h.slots[i] = start, int32(f.Slot)
			i++
		}
		c.used[f.Slot] += len(f.IDs)
		h.rows[k] = int32(i - 1)
	}
	m.dev.WriteInts(m.plan.ids, h.ids[:n])
	m.dev.WriteInts(m.plan.positions, h.positions[:n])
	m.dev.WriteInts(m.plan.starts, h.starts[:n])
	m.dev.WriteInts(m.plan.slots, h.slots[:n])
}

// reserveLogits makes room for the logits of n tokens.
func (m *Model) reserveLogits(n int) {
	h := &m.host
	if n <= len(h.rows) {
		return
	}
	m.dev.Free(h.logitsMemory)
	m.dev.FreeInts(h.rowsMemory)
	h.logitsMemory, h.rowsMemory = ops.Buf{}, ops.Ints{}
	h.logitsMemory, h.rowsMemory = m.dev.Alloc(n*m.Config.V), m.dev.AllocInts(n)
	h.logits, h.rows = make([]float32, n*m.Config.V), make([]int32, n)
}

// headLogits are the logits of the chosen tokens of the last pass, for which reserveLogits has made room.
func (m *Model) headLogits(rows []int32) []float32 {
	c, p, h := m.Config, &m.plan, &m.host
	n := len(rows)
	m.dev.WriteInts(h.rowsMemory.Slice(0, n), rows)
	m.dev.Logits(h.logitsMemory.Slice(0, n*c.V), p.out, m.head, h.rowsMemory.Slice(0, n), p.N, c.C, c.V)
	m.dev.Read(h.logits[:n*c.V], h.logitsMemory.Slice(0, n*c.V))
	return h.logits[:n*c.V]
}

// logitRows is how many tokens' logits eachLogits holds at once.
const logitRows = 32

// eachLogits hands out the logits of all tokens of the last pass, a few at a time.
func (m *Model) eachLogits(yield func(token int, logits []float32) error) error {
	V, n := m.Config.V, m.plan.N
	m.reserveLogits(min(logitRows, n))
	for from := 0; from < n && m.dev.Failed() == nil; from += logitRows {
		rows := m.host.rows[:min(logitRows, n-from)]
		for i := range rows {
			rows[i] = int32(from + i)
		}
		logits := m.headLogits(rows)
		for i := range rows {
			if err := yield(from+i, logits[i*V:(i+1)*V]); err != nil {
				return err
			}
		}
	}
	return m.dev.Failed()
}
