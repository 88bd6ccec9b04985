package cache

import (
	"context"
	"fmt"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"lukechampine.com/blake3/guts"
)

// BLAKE3 is a binary tree over chunks of 1 KiB, so the parts of one large file can be hashed side by side and their
// chaining values joined (BLAKE3 paper, section 2.1). zeebo/blake3, which hashes everything else here, does not show
// subtrees; it is the plain twin in the tests.
const (
	// groupSize is what guts compresses in one call.
	groupSize = guts.MaxSIMD * guts.ChunkSize
	// partSize is the least that is hashed as a subtree of its own, and what is read at once.
	partSize = 256 << 10
	// maxParts bounds the chaining values that are kept, whatever the file's size: 128 KiB.
	maxParts = 4096
	// largeFile is from where on the subtrees pay.
	largeFile = 2 * partSize
)

type chain = [8]uint32

// partFor is the size of a large file's subtrees: a power of two, so that each is a whole subtree of the file's tree.
func partFor(size int64) int64 {
	part := int64(partSize)
	for (size+part-1)/part > maxParts {
		part *= 2
	}
	return part
}

// large hashes an open file of more than part bytes on as many processors as are free. A file that ends before size is
// ErrChanged.
func (p *hashers) large(ctx context.Context, fd int, path string, size, part int64) (ID, error) {
	l := largeHash{ctx: ctx, fd: fd, path: path, size: size, part: part, chains: make([]chain, (size+part-1)/part)}
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(l.chains)) - 1 {
		if !p.helpers.take() {
			break
		}
		wg.Go(func() {
			defer p.helpers.give()
			l.work(p)
		})
	}
	l.work(p)
	wg.Wait()
	if l.err != nil {
		return ID{}, l.err
	}
	return rootOf(l.chains), nil
}

// largeHash is one large file while several goroutines hash it.
type largeHash struct {
	ctx        context.Context
	fd         int
	path       string
	size, part int64
	chains     []chain // of the subtrees, in order
	next       atomic.Int64

	mu  sync.Mutex
	err error // the first
}

// work hashes one subtree after the other until none is left.
func (l *largeHash) work(p *hashers) {
	h := p.take()
	defer p.give(h)
	for {
		i := l.next.Add(1) - 1
		if i >= int64(len(l.chains)) {
			return
		}
		c, err := l.subtree(h, i*l.part)
		if err != nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.err == nil {
				l.err = err
			}
			l.next.Store(int64(len(l.chains)))
			return
		}
		l.chains[i] = c
	}
}

// subtree is the chaining value of the subtree that begins at an offset.
func (l *largeHash) subtree(h *hashing, at int64) (chain, error) {
	end := min(at+l.part, l.size)
	h.chains = h.chains[:0]
	for at < end {
		b := h.buf[:min(partSize, end-at)]
		if err := cmpErr(l.ctx.Err(), l.read(b, at)); err != nil {
			return chain{}, err
		}
		h.chains = append(h.chains, guts.ChainingValue(h.reduce(b, uint64(at/guts.ChunkSize))))
		at += int64(len(b))
	}
	if len(h.chains) == 1 {
		return h.chains[0], nil
	}
	return guts.ChainingValue(join(h.chains)), nil
}

func (l *largeHash) read(b []byte, at int64) error {
	for len(b) > 0 {
		n := 0
		err := retry(func() (err error) { n, err = unix.Pread(l.fd, b, at); return err })
		if err != nil {
			return pathError("read", l.path, err)
		}
		if n <= 0 {
			return fmt.Errorf("hash %s: %w", l.path, ErrChanged)
		}
		b, at = b[n:], at+int64(n)
	}
	return nil
}

// reduce is the node above at most partSize bytes whose first chunk has this number. b is the front of h.buf.
func (h *hashing) reduce(b []byte, chunk uint64) guts.Node {
	var chains [partSize / groupSize]chain
	n := 0
	for at := 0; ; at += groupSize {
		length := min(groupSize, len(b)-at)
		node := guts.CompressBuffer((*[groupSize]byte)(h.buf[at:]), length, &guts.IV, chunk+uint64(at/guts.ChunkSize), 0)
		if at == 0 && length == len(b) {
			return node
		}
		chains[n] = guts.ChainingValue(node)
		if n++; at+length == len(b) {
			return join(chains[:n])
		}
	}
}

// join is the node above two or more subtrees of one size, of which only the last may be smaller: its left side is
// the largest power of two that leaves something for the right.
func join(chains []chain) guts.Node {
	left := 1 << (bits.Len(uint(len(chains)-1)) - 1)
	return guts.ParentNode(joined(chains[:left]), joined(chains[left:]), &guts.IV, 0)
}

func joined(chains []chain) chain {
	if len(chains) == 1 {
		return chains[0]
	}
	return guts.ChainingValue(join(chains))
}

// helpers counts the goroutines that help with large files, so that many of these at once do not start more than the
// machine has processors.
type helpers struct{ busy atomic.Int32 }

func (h *helpers) take() bool {
	if h.busy.Add(1) < int32(runtime.GOMAXPROCS(0)) {
		return true
	}
	h.busy.Add(-1)
	return false
}

func (h *helpers) give() { h.busy.Add(-1) }
