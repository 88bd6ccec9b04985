//go:build !linux

package main

import "errors"

func askLarge([]byte) error { return errors.ErrUnsupported }
