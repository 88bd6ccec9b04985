package model

import (
	"errors"
	"slices"

	"lpipe/engine/ops"
)

// queued are training passes whose losses the host has not read yet. They wait on the device, so that a step of many passes needs
// one transfer, and the host is never in the way of the device before it.
type queued struct {
	buf    ops.Buf // loss, squares and factor of StepSums, then the losses of tokens, pass after pass
	host   []float32
	room   int // losses that there should be place for
	used   int // losses
	passes []queuedPass
	early  Settled // of passes that had to be read before Settle
}

// queuedPass is how many tokens a pass had, and what its loss is divided by. A pass of pairs has those of the reference before its own.
type queuedPass struct {
	n, tokens int
	pairs     bool
}

// stepSums is how many values stand before the losses of tokens.
const stepSums = 3

// StepSums are what a step leaves on the device, [1] each: the loss of its training passes, to see whether it is a finite number; the
// sum of its gradients' squares; and what ClipFactor makes of both. ZeroGrad clears the first two.
type StepSums struct{ Loss, Squares, Factor ops.Buf }

// Settled is what Settle reads.
type Settled struct {
	Losses          []float64    // of each QueueStep: what Step returns
	Pairs           []PairLosses // of each QueuePairs
	Squares, Factor float32      // of StepSums
}

// PairLosses are the -log p(target) of a batch of pairs, one for each token as TokenLosses has them: with the adapter, and without.
type PairLosses struct{ Trained, Reference []float32 }

// StepSums are valid until the next call of Model that makes room for more tokens.
func (m *Model) StepSums() StepSums {
	m.roomFor(0)
	b := m.queued.buf
	return StepSums{b.Slice(0, 1), b.Slice(1, 2), b.Slice(2, 3)}
}

// Room lets so many losses be queued before passes must wait: QueueStep leaves one of each token, QueuePairs two.
func (m *Model) Room(losses int) error {
	m.queued.room = max(m.queued.room, losses)
	m.roomFor(losses)
	return m.dev.Err()
}

// RoomBytes is what Room takes.
func RoomBytes(losses int) int64 { return 4 * int64(stepSums+losses) }

// roomFor makes the buffer as large as n tokens need. What it holds before the losses stays; there must be none of those.
func (m *Model) roomFor(n int) {
	q := &m.queued
	if q.buf.Present() && q.buf.Len >= stepSums+n || m.dev.Failed() != nil {
		return
	}
	old := q.buf
	q.buf = m.dev.Alloc(stepSums + max(n, q.room))
	if old.Present() && m.dev.Failed() == nil {
		m.dev.Copy(q.buf, old, stepSums)
	}
	m.dev.Free(old)
	q.host = make([]float32, q.buf.Len)
}

// QueueStep is Step without waiting for the device. Settle returns the loss.
func (m *Model) QueueStep(b Batch, tokens int) error {
	if err := m.forwardTrained(b); err != nil {
		return err
	}
	nll, err := m.keep(queuedPass{n: m.plan.N, tokens: tokens}, m.plan.N)
	if err != nil {
		return err
	}
	m.loss(nll, 1/float32(tokens), true)
	m.backward()
	return m.dev.Failed()
}

// QueuePairs queues what direct preference optimisation makes of one batch of pairs: a pass of the base model, for the reference, a
// training pass, and the gradients of the loss, which is a mean over so many pairs (see ops.Device.PairWeights). ends are where texts
// end in the batch, two of each pair. Settle returns the losses of both passes. The head must be frozen.
func (m *Model) QueuePairs(b Batch, ends []int32, beta float64, pairs int) error {
	if m.dhead.Present() {
		return errors.New("tokens are weighted only where the head is frozen: train an adapter")
	}
	n := b.B * b.T
	nll, err := m.keep(queuedPass{n: n, pairs: true}, 2*n)
	if err != nil {
		return err
	}
	reference, trained := nll.Slice(0, n), nll.Slice(n, 2*n)
	if err := m.WithoutAdapters(func() error { return m.forwardOnly(b) }); err != nil {
		return err
	}
	m.loss(reference, 1, false)
	if err := m.forwardTrained(b); err != nil {
		return err
	}
	m.loss(trained, 1, true)
	p, d := &m.plan, m.dev
	list := p.slots.Slice(0, len(ends)) // a training pass has no cache
	d.WriteInts(list, ends)
	d.PairWeights(p.amount, trained, reference, list, beta, pairs, n, len(ends)/2)
	d.ScaleRows(p.dnorm, p.amount, n, m.Config.C) // a token's gradient is linear in its weight
	m.backward()
	return d.Failed()
}

// keep is where a pass leaves so many losses. What was queued before is read when they do not fit beside it.
func (m *Model) keep(pass queuedPass, losses int) (ops.Buf, error) {
	q := &m.queued
	if stepSums+q.used+losses > q.buf.Len {
		if _, err := m.drain(); err != nil {
			return ops.Buf{}, err
		}
		m.roomFor(losses)
		if err := m.dev.Failed(); err != nil {
			return ops.Buf{}, err
		}
	}
	at := stepSums + q.used
	q.used += losses
	q.passes = append(q.passes, pass)
	return q.buf.Slice(at, at+losses), nil
}

// Settle waits for what was queued and returns what came of it since the last call.
func (m *Model) Settle() (Settled, error) {
	sums, err := m.drain()
	s := m.queued.early
	m.queued.early = Settled{}
	s.Squares, s.Factor = sums[1], sums[2]
	return s, err
}

// drain reads all of the buffer that is used.
func (m *Model) drain() (sums []float32, err error) {
	m.roomFor(0)
	q := &m.queued
	if err := m.dev.Failed(); err != nil {
		return make([]float32, stepSums), err
	}
	host := q.host[:stepSums+q.used]
	m.dev.Read(host, q.buf.Slice(0, len(host)))
	sums = host[:stepSums]
	if err := m.dev.Failed(); err != nil {
		return sums, err
	}
	nll := host[stepSums:]
	for _, p := range q.passes {
		if p.pairs {
			q.early.Pairs = append(q.early.Pairs, PairLosses{Reference: slices.Clone(nll[:p.n]), Trained: slices.Clone(nll[p.n : 2*p.n])})
			nll = nll[2*p.n:]
			continue
		}
		q.early.Losses = append(q.early.Losses, sumOf(nll[:p.n])/float64(p.tokens))
		nll = nll[p.n:]
	}
	q.passes, q.used = q.passes[:0], 0
	return sums, nil
}

// sumOf is in float64: in float32 a sum over a large batch loses digits that a comparison of runs would miss.
func sumOf(nll []float32) float64 {
	sum := 0.0
	for _, v := range nll {
		sum += float64(v)
	}
	return sum
}
