package cache

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"
)

// someBytes are n bytes that look random, and the object of them.
func someBytes(n int) ([]byte, Object) {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	r.Read(b)
	return b, Object{ID: ID(blake3.Sum256(b)), Size: int64(n)}
}

func putPart(t *testing.T, p *Partial, i int, data []byte) {
	t.Helper()
	at, n := p.Range(i)
	noError(t, p.Put(t.Context(), i, bytes.NewReader(data[at:at+n])))
}

func openPartial(t *testing.T, c *Cache, o Object, part int64) *Partial {
	t.Helper()
	p, err := c.Partial(t.Context(), o, part)
	noError(t, err)
	return p
}

// TestPartialSizes: parts in any order, side by side, give the object that Put gives, for sizes around every boundary.
func TestPartialSizes(t *testing.T) {
	c := openCache(t, Options{Dir: t.TempDir()})
	const part = 512 << 10
	for _, size := range []int{part + 1, part + 1024, 2*part - 1, 2 * part, 2*part + 1, 3 * part, 5*part + 256<<10, 5*part + 256<<10 + 7, 8 * part} {
		data, o := someBytes(size)
		p := openPartial(t, c, o, part)
		var wg sync.WaitGroup
		for _, i := range p.Missing() {
			wg.Go(func() { putPart(t, p, i, data) })
		}
		wg.Wait()
		if done, err := p.Commit(t.Context()); !done || err != nil {
			t.Errorf("%d bytes: %v, %v", size, done, err)
		}
		p.Close()
		got, err := os.ReadFile(c.Path(o.ID))
		noError(t, err)
		if !bytes.Equal(got, data) || !c.Has(o.ID) {
			t.Errorf("%d bytes: another file", size)
		}
	}
	if left, _ := os.ReadDir(c.in("tmp")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// TestPartialGoesOn: after a kill the parts that came are there, but for one whose bytes the disk lost and one whose
// record is torn.
func TestPartialGoesOn(t *testing.T) {
	c := openCache(t, Options{Dir: t.TempDir()})
	const part = 256 << 10
	data, o := someBytes(6*part + 5)
	p := openPartial(t, c, o, part)
	for _, i := range []int{5, 0, 3, 6} {
		putPart(t, p, i, data)
	}
	path := p.data.Name()
	p.Close()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	noError(t, err)
	f.WriteAt([]byte{data[3*part+7] ^ 1}, 3*part+7)
	f.Close()
	info, err := os.Stat(path + ".log")
	noError(t, err)
	noError(t, os.Truncate(path+".log", info.Size()-3))
	noError(t, os.Chmod(path, 0o444))

	p = openPartial(t, openCache(t, Options{Dir: c.Dir()}), o, part)
	defer p.Close()
	missing := p.Missing()
	if len(missing) != 5 || missing[0] != 1 || missing[2] != 3 || missing[4] != 6 {
		t.Errorf("missing %v, not 1 2 3 4 6", missing)
	}
	for _, i := range missing {
		putPart(t, p, i, data)
	}
	if done, err := p.Commit(t.Context()); !done || err != nil {
		t.Errorf("%v, %v", done, err)
	}
	if !c.Has(o.ID) {
		t.Error("it is not there")
	}
}

// TestPartialDoubt: with wrong bytes in one part all come again; what came twice alike is not asked for a third time, and when
// that is all, the object is damaged where it came from.
func TestPartialDoubt(t *testing.T) {
	c := openCache(t, Options{Dir: t.TempDir()})
	const part = 256 << 10
	data, o := someBytes(4 * part)
	wrong := bytes.Clone(data)
	wrong[2*part] ^= 1
	p := openPartial(t, c, o, part)
	defer p.Close()
	for _, step := range []struct {
		from    []byte
		missing int
	}{{wrong, 4}, {data, 4}} {
		if got := p.Missing(); len(got) != step.missing {
			t.Errorf("missing %v", got)
		}
		for _, i := range p.Missing() {
			putPart(t, p, i, step.from)
		}
		p.Commit(t.Context())
	}
	if !c.Has(o.ID) {
		t.Error("right bytes at the second time are not enough")
	}
	other, o2 := someBytes(4*part + 1)
	other[0] ^= 1
	p2 := openPartial(t, c, o2, part)
	defer p2.Close()
	for range 2 {
		for _, i := range p2.Missing() {
			putPart(t, p2, i, other)
		}
		_, err := p2.Commit(t.Context())
		if len(p2.Missing()) == 0 && !errors.Is(err, ErrDamaged) {
			t.Errorf("%v", err)
		}
	}
	if c.Has(o2.ID) {
		t.Error("wrong bytes have a name")
	}
}

// TestPartialAlone: two at once do not write into one file, and both end well.
func TestPartialAlone(t *testing.T) {
	c := openCache(t, Options{Dir: t.TempDir()})
	const part = 256 << 10
	data, o := someBytes(2*part + 9)
	a, b := openPartial(t, c, o, part), openPartial(t, openCache(t, Options{Dir: c.Dir()}), o, part)
	for i := range 3 {
		putPart(t, a, i, data)
		putPart(t, b, i, data)
	}
	for _, p := range []*Partial{a, b} {
		if done, err := p.Commit(t.Context()); !done || err != nil {
			t.Errorf("%v, %v", done, err)
		}
		p.Close()
	}
	if left, _ := os.ReadDir(c.in("tmp")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// TestPartialFaults makes the n-th change to the disk fail, for all n: nothing wrong gets a name, and the next attempt ends well.
func TestPartialFaults(t *testing.T) {
	const part = 256 << 10
	data, o := someBytes(3*part + 1)
	bring := func(c *Cache) error {
		p, err := c.Partial(t.Context(), o, part)
		if err != nil {
			return err
		}
		defer p.Close()
		for _, i := range p.Missing() {
			at, n := p.Range(i)
			if err := p.Put(t.Context(), i, io.NewSectionReader(bytes.NewReader(data), at, n)); err != nil {
				return err
			}
		}
		_, err = p.Commit(t.Context())
		return err
	}
	for n := int64(1); ; n++ {
		c := openCache(t, Options{Dir: t.TempDir()})
		reached := failFrom(c, n, unix.EIO, true)
		err := bring(c)
		c.disk.fault = nil
		if err != nil && !errors.Is(err, unix.EIO) {
			t.Errorf("n=%d: the cause is lost: %v", n, err)
		}
		if r := fsck(t, c, FsckOptions{Full: true}); len(r.Problems) > 0 {
			t.Errorf("n=%d: %+v", n, r.Problems)
		}
		if err := bring(c); err != nil {
			t.Errorf("n=%d: not afterwards either: %v", n, err)
		}
		if !c.Has(o.ID) {
			t.Errorf("n=%d: it is not there", n)
		}
		if !reached() {
			return
		}
	}
}

// TestPutBytes is Put's twin: the same files, the same rights.
func TestPutBytes(t *testing.T) {
	c := openCache(t, Options{Dir: t.TempDir()})
	b, err := c.NewBatch(t.Context())
	noError(t, err)
	defer b.Discard()
	sizes := []int{0, 1, 1000, 300_000}
	for _, n := range sizes {
		data, o := someBytes(n)
		noError(t, b.PutBytes(t.Context(), o.ID, false, data))
	}
	if err := b.PutBytes(t.Context(), ID{1}, false, nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("wrong bytes: %v", err)
	}
	noError(t, b.Commit(t.Context()))
	for _, n := range sizes {
		data, o := someBytes(n)
		got, err := os.ReadFile(c.Path(o.ID))
		noError(t, err)
		info, err := os.Stat(c.Path(o.ID))
		noError(t, err)
		if !bytes.Equal(got, data) || info.Mode() != 0o444 {
			t.Errorf("%d bytes: %d with mode %v", n, len(got), info.Mode())
		}
	}
}
