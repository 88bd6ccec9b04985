// Package gguf writes GGUF, the file format of llama.cpp and the programs around it: typed settings, then tensors. It
// knows no model; package engine decides what is written.
//
// Version 3, little endian (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md):
//
//	4 bytes   "GGUF"
//	4 bytes   3
//	8 + 8     number of tensors, number of settings
//	settings  name, type, value
//	tensors   name, number of dimensions, dimensions (the innermost first), type, place of the data
//	padding   to a multiple of 32
//	data      of each tensor, padded to a multiple of 32
//
// A string is its length in 8 bytes and its bytes. Write makes a file whole or not at all.
package gguf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Type is how a tensor's numbers are stored, under ggml's numbers.
type Type uint32

// The types that are written here.
const (
	F32  Type = 0
	F16  Type = 1
	Q8_0 Type = 8 // blocks of 32: a half-precision scale and 32 signed bytes
	BF16 Type = 30
)

const (
	magic     = "GGUF"
	version   = 3
	alignment = 32
)

// Setting is a named value: a string, bool, uint32, int32, float32, []string or []int32.
type Setting struct {
	Name  string
	Value any
}

// Tensor is a tensor to be written. Shape has the innermost dimension last, as elsewhere in lpipe; Values reads the
// numbers, row by row, when they are wanted.
type Tensor struct {
	Name   string
	Shape  []int
	Type   Type
	Values func() ([]float32, error)
}

func (t Tensor) len() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Bytes is what the tensor's data take.
func (t Tensor) Bytes() int64 {
	n := int64(t.len())
	switch t.Type {
	case F32:
		return 4 * n
	case Q8_0:
		return n / block * (2 + block)
	default:
		return 2 * n
	}
}

// File is what Write writes.
type File struct {
	Settings []Setting
	Tensors  []Tensor
}

// Write makes the file at path: a temporary file beside it, sync, rename. It holds one tensor in memory at a time.
func (f File) Write(path string) error {
	if err := f.check(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() { // root could rename over a device
		return fmt.Errorf("write %s: it is there, and is no regular file: name another", path)
	}
	out, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(out, 1<<20)
	err = f.encode(w)
	if err == nil {
		err = errors.Join(w.Flush(), out.Chmod(0o644), out.Sync())
	}
	if err = errors.Join(err, out.Close()); err == nil {
		err = os.Rename(out.Name(), path)
	}
	if err != nil {
		os.Remove(out.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (f File) check() error {
	for _, t := range f.Tensors {
		switch t.Type {
		case F32, F16, BF16:
		case Q8_0:
			if last := t.Shape[len(t.Shape)-1]; last%block != 0 {
				return fmt.Errorf("tensor %s has rows of %d values; Q8_0 stores multiples of %d", t.Name, last, block)
			}
		default:
			return fmt.Errorf("tensor %s has type %d, which is not written here", t.Name, t.Type)
		}
	}
	return nil
}

func (f File) encode(out io.Writer) error {
	e := &encoder{w: out}
	e.raw([]byte(magic))
	e.u32(version)
	e.u64(uint64(len(f.Tensors)))
	e.u64(uint64(len(f.Settings)))
	for _, s := range f.Settings {
		e.text(s.Name)
		e.value(s)
	}
	at := uint64(0)
	for _, t := range f.Tensors {
		e.text(t.Name)
		e.u32(uint32(len(t.Shape)))
		for i := range t.Shape {
			e.u64(uint64(t.Shape[len(t.Shape)-1-i]))
		}
		e.u32(uint32(t.Type))
		e.u64(at)
		at += padded(uint64(t.Bytes()))
	}
	e.pad()
	for _, t := range f.Tensors {
		if e.err != nil {
			return e.err
		}
		values, err := t.Values()
		if err != nil {
			return fmt.Errorf("tensor %s: %w", t.Name, err)
		}
		if len(values) != t.len() {
			return fmt.Errorf("tensor %s: %d values where shape %v needs %d", t.Name, len(values), t.Shape, t.len())
		}
		e.tensor(t.Type, values)
		e.pad()
	}
	return e.err
}

func padded(n uint64) uint64 { return (n + alignment - 1) / alignment * alignment }

// encoder writes numbers, and keeps the first error.
type encoder struct {
	w   io.Writer
	n   uint64 // bytes so far
	err error
}

func (e *encoder) raw(b []byte) {
	if e.err == nil {
		_, e.err = e.w.Write(b)
		e.n += uint64(len(b))
	}
}

func (e *encoder) u32(v uint32) { e.raw(binary.LittleEndian.AppendUint32(nil, v)) }
func (e *encoder) u64(v uint64) { e.raw(binary.LittleEndian.AppendUint64(nil, v)) }

func (e *encoder) text(s string) {
	e.u64(uint64(len(s)))
	e.raw([]byte(s))
}

func (e *encoder) pad() { e.raw(make([]byte, padded(e.n)-e.n)) }
