package cuda

import (
	"errors"

	"lpipe/engine/ops"
)

// outline is a machine that has addresses and no memory. A device on it counts what operations would take.
type outline struct {
	about Description
	next  Pointer
}

var _ Machine = (*outline)(nil)

// NewOutline makes a device that counts memory as one on such a machine would, and computes nothing.
func NewOutline(about Description, o Options) *Device {
	d := New(&outline{about: about, next: 256}, o)
	d.counts = true
	return d
}

var _ ops.Outliner = (*Device)(nil)

// Outline is such a twin of d.
func (d *Device) Outline() ops.Device { return NewOutline(d.m.Describe(), d.o) }

func (m *outline) Alloc(bytes int64) (Pointer, error) {
	p := m.next
	m.next += Pointer(bytes+255) &^ 255
	return p, nil
}

func (m *outline) Fetch(parts []Part) (func() ([]byte, error), error) {
	n := 0
	for _, p := range parts {
		n += p.Bytes
	}
	return func() ([]byte, error) { return make([]byte, n), nil }, nil
}

func (m *outline) Free(Pointer) error                                      { return nil }
func (m *outline) Set(Pointer, byte, int64) error                          { return nil }
func (m *outline) Upload(Pointer, []byte) error                            { return nil }
func (m *outline) Download([]byte, Pointer) error                          { return nil }
func (m *outline) Copy(_, _ Pointer, _ int64) error                        { return nil }
func (m *outline) AfterFetch() error                                       { return nil }
func (m *outline) Launch(string, [3]uint32, uint32, uint32, *Params) error { return nil }
func (m *outline) Product(*Product) (bool, error)                          { return true, nil }
func (m *outline) Record(func()) (Recording, error)                        { return nil, errors.ErrUnsupported }
func (m *outline) Sync() error                                             { return nil }
func (m *outline) Describe() Description                                   { return m.about }
func (m *outline) Close() error                                            { return nil }
