package cuda

import (
	"unsafe"

	"lpipe/engine/ops"
)

var _ ops.Snapshotter = (*Device)(nil)

// Snapshot begins to copy buffers to the host.
func (d *Device) Snapshot(src []ops.Buf) (arrived func() ([][]float32, error)) {
	d.note("Snapshot", len(src))
	parts := make([]Part, len(src))
	d.read = map[int32]bool{}
	for i, b := range src {
		parts[i] = Part{d.f(b, b.Len), 4 * b.Len}
		d.read[b.Block] = true
	}
	var wait func() ([]byte, error)
	if d.err == nil {
		var err error
		wait, err = d.m.Fetch(parts)
		d.fail(err)
	}
	if err := d.err; err != nil {
		return func() ([][]float32, error) { return nil, err }
	}
	return func() ([][]float32, error) {
		bytes, err := wait()
		if err != nil {
			return nil, err
		}
		all := make([][]float32, len(parts))
		for i, p := range parts {
			all[i] = floats(bytes[:p.Bytes])
			bytes = bytes[p.Bytes:]
		}
		return all, nil
	}
}

// changes is f for a buffer that a snapshot may be reading: what follows then waits for it.
func (m *memory) changes(b ops.Buf, n int) Pointer {
	if m.read[b.Block] {
		m.read = nil
		m.fail(m.m.AfterFetch())
	}
	return m.f(b, n)
}

// floats are the values that lie in memory.
func floats(b []byte) []float32 {
	if len(b) == 0 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&b[0])), len(b)/4)
}
