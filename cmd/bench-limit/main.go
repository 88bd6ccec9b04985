// Command bench-limit takes the time that a bare loop needs for what lpipe does with files: nothing is recorded, synced or
// checked. It is the floor in the table of `make bench-pipeline`.
//
//	limit start                 do nothing
//	limit add FOLDER TO         stat, read, hash and link every file below a folder into another one, by hash
//	limit status FOLDER         stat every file
//	limit checkout FROM FOLDER  make the folders and link every file
//	limit hash FILE...          read and hash files in pieces of 64 MiB
package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/zeebo/blake3"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "limit:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "start":
		return nil
	case len(args) == 3 && args[0] == "add":
		return add(args[1], args[2])
	case len(args) == 2 && args[0] == "status":
		return each(args[1], func(path string) error { _, err := os.Lstat(path); return err })
	case len(args) == 3 && args[0] == "checkout":
		return checkout(args[1], args[2])
	case len(args) > 1 && args[0] == "hash":
		return hash(args[1:])
	}
	return fmt.Errorf("unknown work %q", args)
}

func add(from, to string) error {
	for i := range 256 {
		if err := os.MkdirAll(filepath.Join(to, fmt.Sprintf("%02x", i)), 0o777); err != nil {
			return err
		}
	}
	return each(from, func(path string) error {
		if _, err := os.Lstat(path); err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		sum := blake3.Sum256(data)
		name := hex.EncodeToString(sum[:])
		return os.Link(path, filepath.Join(to, name[:2], name[2:]))
	})
}

func checkout(from, to string) error {
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.MkdirAll(filepath.Join(to, path[len(from):]), 0o777)
		}
		return err
	})
	if err != nil {
		return err
	}
	return each(from, func(path string) error { return os.Link(path, filepath.Join(to, path[len(from):])) })
}

// each calls f for the files below a folder, on all processors.
func each(folder string, f func(path string) error) error {
	paths := make(chan string, 1024)
	work := func() error {
		var first error
		for path := range paths {
			if err := f(path); err != nil && first == nil {
				first = err
			}
		}
		return first
	}
	wait := together(work)
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			paths <- path
		}
		return err
	})
	close(paths)
	if failed := wait(); err == nil {
		err = failed
	}
	return err
}

func hash(files []string) error {
	const piece = 64 << 20
	type part struct {
		file string
		at   int64
	}
	parts := make(chan part, 1024)
	work := func() error {
		var first error
		for p := range parts {
			if err := hashPart(p.file, p.at, piece); err != nil && first == nil {
				first = err
			}
		}
		return first
	}
	wait := together(work)
	var err error
	for _, file := range files {
		info, failed := os.Stat(file)
		if failed != nil {
			err = failed
			continue
		}
		for at := int64(0); at < info.Size(); at += piece {
			parts <- part{file, at}
		}
	}
	close(parts)
	if failed := wait(); err == nil {
		err = failed
	}
	return err
}

func hashPart(file string, at, length int64) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	h := blake3.New()
	_, err = io.CopyBuffer(struct{ io.Writer }{h}, io.NewSectionReader(f, at, length), make([]byte, 128<<10))
	return err
}

// together runs work once for each processor and returns what waits for all of them.
func together(work func() error) (wait func() error) {
	var all sync.WaitGroup
	errs := make([]error, runtime.GOMAXPROCS(0))
	for i := range errs {
		all.Go(func() { errs[i] = work() })
	}
	return func() error {
		all.Wait()
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		return nil
	}
}
