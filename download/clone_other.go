//go:build !linux

package download

import "errors"

// cloneFile is not attempted here.
func cloneFile(string, string) error { return errors.ErrUnsupported }
