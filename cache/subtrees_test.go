package cache

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"
)

// TestLargeFilesHashAlike compares the subtrees with zeebo/blake3, at sizes around everything that has a boundary.
func TestLargeFilesHashAlike(t *testing.T) {
	data := make([]byte, 9*partSize+1)
	random := rand.NewChaCha8([32]byte{7})
	random.Read(data)
	sizes := []int{1, 63, 64, 65, 1023, 1024, 1025, 2047, 2048, groupSize - 1, groupSize, groupSize + 1, 3*groupSize + 500, 17*groupSize - 1}
	for _, k := range []int{1, 2, 3, 4, 5, 7, 8, 9} {
		sizes = append(sizes, k*partSize-1, k*partSize, k*partSize+1)
	}
	for range 20 {
		sizes = append(sizes, 1+rand.IntN(len(data)-1))
	}
	path := filepath.Join(t.TempDir(), "file")
	noError(t, os.WriteFile(path, data, 0o644))
	f, err := os.Open(path)
	noError(t, err)
	defer f.Close()
	var p hashers
	for _, size := range sizes {
		want := ID(blake3.Sum256(data[:size]))
		for _, part := range []int64{partSize, 2 * partSize, 8 * partSize} {
			if int64(size) <= part {
				continue // one subtree is not a tree
			}
			got, err := p.large(t.Context(), int(f.Fd()), path, int64(size), part)
			noError(t, err)
			if got != want {
				t.Fatalf("%d bytes in parts of %d: %s, zeebo says %s", size, part, got, want)
			}
		}
	}
}

func TestPartsAreBounded(t *testing.T) {
	for size := int64(largeFile); size < 1<<50; size = size*3/2 + 1 {
		part := partFor(size)
		if parts := (size + part - 1) / part; parts > maxParts || parts < 2 || part&(part-1) != 0 {
			t.Fatalf("%d bytes: %d parts of %d", size, parts, part)
		}
	}
}

// A file that is cut while it is hashed is looked at again, and hashed as it then is.
func TestCutWhileHashed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	noError(t, os.WriteFile(path, make([]byte, 3*partSize), 0o644))
	f, err := os.Open(path)
	noError(t, err)
	defer f.Close()
	var p hashers
	if _, err := p.large(t.Context(), int(f.Fd()), path, 4*partSize, partSize); !errors.Is(err, ErrChanged) {
		t.Fatalf("a file shorter than expected: %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, _, err := p.file(cancelled, unix.AT_FDCWD, "", path, nil, false); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	if p.helpers.busy.Load() != 0 {
		t.Fatal("helpers were not given back")
	}
}

// BenchmarkLargeFile is one file of 1 GiB by its subtrees, and by zeebo/blake3 from beginning to end.
func BenchmarkLargeFile(b *testing.B) {
	const size = 1 << 30
	path := filepath.Join(b.TempDir(), "file")
	noError(b, os.WriteFile(path, make([]byte, size), 0o644))
	f, err := os.Open(path)
	noError(b, err)
	defer f.Close()
	var p hashers
	b.Run("subtrees", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			_, err := p.sum(b.Context(), int(f.Fd()), path, size)
			noError(b, err)
		}
	})
	b.Run("plain", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			_, err := unix.Seek(int(f.Fd()), 0, 0)
			noError(b, err)
			h := p.take()
			_, err = h.sum(b.Context(), int(f.Fd()), path, size)
			noError(b, err)
			p.give(h)
		}
	})
}
