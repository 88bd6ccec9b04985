package download

import (
	"errors"
	"io"
	"os"
)

// placeFile puts a blob's content at a path: a clone that shares the disk's blocks, else a second name, else a copy. A
// second name shares the bytes with every program that uses the cache, so it is read-only: an editor that would write
// into it is stopped. The Python tools replace blobs and never write into them.
func placeFile(blob, to string) error {
	if cloneFile(blob, to) == nil {
		return nil
	}
	if os.Link(blob, to) == nil {
		if os.Chmod(to, 0o444) == nil {
			return nil
		}
		os.Remove(to) // somebody else's file: a copy is ours
	}
	return copyFile(blob, to)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}
