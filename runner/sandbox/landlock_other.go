//go:build !linux

package sandbox

import "os"

// Supported is ErrUnsupported: only Linux has Landlock.
func Supported() error { return ErrUnsupported }

func become(Rules, string, []string, []string) error { return ErrUnsupported }

func anonymous([]byte) (*os.File, error) { return nil, ErrUnsupported }
