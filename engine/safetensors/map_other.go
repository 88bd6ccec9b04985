//go:build !unix

package safetensors

import "os"

// mapFile reads the file where mapping is not to be had.
func mapFile(path string) ([]byte, error) { return os.ReadFile(path) }

func unmapFile([]byte) error { return nil }

func forget([]byte) {}
