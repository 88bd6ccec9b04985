//go:build cuda

package driver

import (
	"errors"
	"unsafe"

	"gorgonia.org/cu"

	"lpipe/engine/cuda"
)

// Upload copies src to pinned memory, from where the device fetches it.
func (m *Machine) Upload(dst cuda.Pointer, src []byte) error {
	defer m.lock()()
	for len(src) > 0 {
		part, err := m.staging.take(len(src), m.queue)
		if err != nil {
			return err
		}
		n := copy(part, src)
		if err := cu.MemcpyHtoDAsync(cu.DevicePtr(dst), unsafe.Pointer(&part[0]), int64(n), m.queue); err != nil {
			return said("cuMemcpyHtoDAsync", err)
		}
		src, dst = src[n:], dst+cuda.Pointer(n)
	}
	return nil
}

// Download waits for everything before it, and for the copy.
func (m *Machine) Download(dst []byte, src cuda.Pointer) error {
	defer m.lock()()
	for len(dst) > 0 {
		part, err := m.staging.take(len(dst), m.queue)
		if err != nil {
			return err
		}
		n := min(len(dst), len(part))
		if err := cu.MemcpyDtoHAsync(unsafe.Pointer(&part[0]), cu.DevicePtr(src), int64(n), m.queue); err != nil {
			return said("cuMemcpyDtoHAsync", err)
		}
		if err := m.queue.Synchronize(); err != nil {
			return said("cuStreamSynchronize", err)
		}
		copy(dst, part[:n])
		dst, src = dst[n:], src+cuda.Pointer(n)
	}
	return nil
}

// staging is pinned memory for transfers, a ring of slots that are filled one after the other. A slot's event follows its last
// transfer; it is waited for when the ring comes round to it, many small transfers later.
type staging struct {
	slots [4]slot
	turn  int
	used  int // bytes of the slot whose turn it is
}

type slot struct {
	memory []byte
	event  cu.Event
	busy   bool // the event is recorded
}

const slotBytes = 8 << 20

func (s *staging) open() (err error) {
	for i := range s.slots {
		if s.slots[i].memory, err = pinned(slotBytes); err != nil {
			return err
		}
		if s.slots[i].event, err = cu.MakeEvent(cu.DisableTiming); err != nil {
			return said("cuEventCreate", err)
		}
	}
	return nil
}

// take is memory for a transfer of up to n bytes on queue, which must follow at once.
func (s *staging) take(n int, queue cu.Stream) ([]byte, error) {
	const worth = 64 << 10 // less at a slot's end is not begun for a larger transfer
	p := &s.slots[s.turn]
	if left := len(p.memory) - s.used; left < n && left < worth {
		if err := p.event.Record(queue); err != nil {
			return nil, said("cuEventRecord", err)
		}
		p.busy = true
		s.turn, s.used = (s.turn+1)%len(s.slots), 0
		p = &s.slots[s.turn]
	}
	if p.busy {
		if err := p.event.Synchronize(); err != nil {
			return nil, said("cuEventSynchronize", err)
		}
		p.busy = false
	}
	from, to := s.used, min(s.used+n, len(p.memory))
	s.used = min((to+255)&^255, len(p.memory))
	return p.memory[from:to], nil
}

func (s *staging) close() {
	for i := range s.slots {
		if s.slots[i].memory != nil {
			_ = freePinned(s.slots[i].memory)
			s.slots[i].memory = nil
			_ = cu.DestroyEvent(&s.slots[i].event)
		}
	}
}

// fetching copies regions to the host on a stream of its own.
type fetching struct {
	stream cu.Stream
	ready  cu.Event // on the machine's queue: what is copied has been computed
	done   cu.Event // on the stream: it has been copied
	memory []byte
	locked bool // memory is pinned
	begun  bool
}

func (f *fetching) open() (err error) {
	if f.stream, err = cu.MakeStream(cu.NonBlocking); err != nil {
		return said("cuStreamCreate", err)
	}
	if f.ready, err = cu.MakeEvent(cu.DisableTiming); err != nil {
		return said("cuEventCreate", err)
	}
	f.done, err = cu.MakeEvent(cu.DisableTiming)
	return said("cuEventCreate", err)
}

// Fetch queues copies behind what the machine's queue has so far, and beside what comes later.
func (m *Machine) Fetch(parts []cuda.Part) (func() ([]byte, error), error) {
	defer m.lock()()
	f := &m.fetch
	if err := f.wait(); err != nil {
		return nil, err
	}
	total := 0
	for _, p := range parts {
		total += p.Bytes
	}
	f.reserve(total)
	if err := errors.Join(said("cuEventRecord", f.ready.Record(m.queue)), said("cuStreamWaitEvent", f.stream.Wait(f.ready, 0))); err != nil {
		return nil, err
	}
	at := 0
	for _, p := range parts {
		if p.Bytes == 0 {
			continue
		}
		if err := cu.MemcpyDtoHAsync(unsafe.Pointer(&f.memory[at]), cu.DevicePtr(p.From), int64(p.Bytes), f.stream); err != nil {
			return nil, said("cuMemcpyDtoHAsync", err)
		}
		at += p.Bytes
	}
	if err := f.done.Record(f.stream); err != nil {
		return nil, said("cuEventRecord", err)
	}
	f.begun = true
	done, memory, ctx := f.done, f.memory[:total], m.ctx
	return func() ([]byte, error) { // may be called by another goroutine: nothing of m is touched
		defer lockTo(ctx)()
		return memory, said("cuEventSynchronize", done.Synchronize())
	}, nil
}

// AfterFetch lets what is queued from now on wait for the latest Fetch.
func (m *Machine) AfterFetch() error {
	defer m.lock()()
	return said("cuStreamWaitEvent", m.queue.Wait(m.fetch.done, 0))
}

// wait is for the copies in progress: their memory is wanted.
func (f *fetching) wait() error {
	if !f.begun {
		return nil
	}
	f.begun = false
	return said("cuEventSynchronize", f.done.Synchronize())
}

// reserve makes memory for that many bytes: pinned, or where the system does not give as much of that, any. Copies to the latter hold the
// caller up until they are done, which a checkpoint is worth.
func (f *fetching) reserve(bytes int) {
	if len(f.memory) >= bytes {
		return
	}
	f.release()
	memory, err := pinned(bytes)
	f.locked = err == nil
	if !f.locked {
		memory = make([]byte, bytes)
	}
	f.memory = memory
}

func (f *fetching) release() {
	if f.locked {
		_ = freePinned(f.memory) // what cannot be given back goes with the process
	}
	f.memory, f.locked = nil, false
}

func (f *fetching) close() {
	f.release()
	for _, e := range []*cu.Event{&f.ready, &f.done} {
		if *e != (cu.Event{}) {
			_ = cu.DestroyEvent(e)
		}
	}
	if f.stream != (cu.Stream{}) {
		_ = f.stream.Destroy()
	}
}
