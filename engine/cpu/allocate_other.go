//go:build !unix

package cpu

import "unsafe"

func mapPages(uintptr) (mapping, unsafe.Pointer, error) { return mapping{}, nil, nil }

func unmapPages(mapping) {}
