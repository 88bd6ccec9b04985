package cache

import (
	"errors"
	"fmt"
)

// ErrDamaged says that stored bytes are not what their name promises.
var ErrDamaged = errors.New("damaged")

// ErrNotFound says that the cache does not hold what was asked for.
var ErrNotFound = errors.New("not in the cache")

// ErrChanged says that a file was written to while it was read.
var ErrChanged = errors.New("changed while it was read")

// ErrUntrusted says that a result is not signed by a key that is trusted.
var ErrUntrusted = errors.New("not signed by a trusted key")

// Content is a file or a folder by what is in it. Two Contents are the same content exactly when they are equal.
type Content struct {
	ID    ID    `json:"id"`              // of a folder: the ID of its root tree
	Dir   bool  `json:"dir,omitempty"`   // a folder
	Exec  bool  `json:"exec,omitempty"`  // an executable file
	Size  int64 `json:"size"`            // bytes, of a folder the sum over its files
	Files int64 `json:"files,omitempty"` // regular files in a folder; 1 for a file
}

// Light tells whether a copy of the content costs less than a wait until the disk has it.
func (c Content) Light() bool { return c.Size <= 1<<20 && c.Files <= 64 }

// Object is one stored thing: a file's bytes, or an encoded Tree.
type Object struct {
	ID   ID
	Tree bool
	Size int64 // bytes as stored
}

// damaged wraps ErrDamaged with what was found.
func damaged(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrDamaged)
}
