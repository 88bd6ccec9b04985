package model

import "lpipe/engine/ops"

// queued are training passes whose losses the host has not read yet. They wait on the device, so that a step of many passes needs
// one transfer, and the host is never in the way of the device before it.
type queued struct {
	buf    ops.Buf // loss, squares and factor of StepSums, then the losses of tokens, pass after pass
	host   []float32
	room   int // tokens that there should be place for
	used   int // tokens
	passes []queuedPass
	losses []float64 // of passes that had to be read early
}

// queuedPass is how many tokens a pass had, and what its loss is divided by.
type queuedPass struct{ n, tokens int }

// stepSums is how many values stand before the losses of tokens.
const stepSums = 3

// StepSums are what a step leaves on the device, [1] each: the loss of its training passes, to see whether it is a finite number; the
// sum of its gradients' squares; and what ClipFactor makes of both. ZeroGrad clears the first two.
type StepSums struct{ Loss, Squares, Factor ops.Buf }

// Settled is what Settle reads.
type Settled struct {
	Losses          []float64 // of each QueueStep: what Step returns
	Squares, Factor float32   // of StepSums
}

// StepSums are valid until the next call of Model that makes room for more tokens.
func (m *Model) StepSums() StepSums {
	m.roomFor(0)
	b := m.queued.buf
	return StepSums{b.Slice(0, 1), b.Slice(1, 2), b.Slice(2, 3)}
}

// Room lets so many tokens be queued before QueueStep must wait.
func (m *Model) Room(tokens int) error {
	m.queued.room = max(m.queued.room, tokens)
	m.roomFor(tokens)
	return m.dev.Err()
}

// RoomBytes is what Room takes.
func RoomBytes(tokens int) int64 { return 4 * int64(stepSums+tokens) }

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
	q, n := &m.queued, m.plan.N
	if stepSums+q.used+n > q.buf.Len {
		if _, err := m.drain(); err != nil {
			return err
		}
		m.roomFor(n)
		if err := m.dev.Failed(); err != nil {
			return err
		}
	}
	at := stepSums + q.used
	m.loss(q.buf.Slice(at, at+n), 1/float32(tokens), true)
	q.used += n
	q.passes = append(q.passes, queuedPass{n, tokens})
	m.backward()
	return m.dev.Failed()
}

// Settle waits for what was queued and returns what came of it since the last call.
func (m *Model) Settle() (Settled, error) {
	sums, err := m.drain()
	losses := m.queued.losses
	m.queued.losses = nil
	return Settled{Losses: losses, Squares: sums[1], Factor: sums[2]}, err
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
		q.losses = append(q.losses, sumOf(nll[:p.n])/float64(p.tokens))
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
