package remote

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestBucket is what every bucket must do.
func TestBucket(t *testing.T) {
	buckets(t, func(t *testing.T, b Bucket) {
		ctx := t.Context()
		get := func(name string, offset, length int64) string {
			t.Helper()
			r, err := b.Get(ctx, name, offset, length)
			noError(t, err)
			defer r.Close()
			data, err := io.ReadAll(r)
			noError(t, err)
			return string(data)
		}
		put := func(name, text string) { t.Helper(); noError(t, b.Put(ctx, name, strings.NewReader(text))) }
		list := func(prefix string) (names []string) {
			t.Helper()
			for item, err := range b.List(ctx, prefix) {
				noError(t, err)
				names = append(names, fmt.Sprintf("%s %d", item.Name, item.Size))
				if item.Time.IsZero() {
					t.Errorf("%s has no time", item.Name)
				}
			}
			return names
		}
		if got := list(""); len(got) > 0 {
			t.Errorf("a new bucket holds %v", got)
		}
		if _, err := b.Get(ctx, "a/x", 0, -1); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a missing name: %v", err)
		}
		put("a/x", "0123456789")
		put("a/empty", "")
		put("ab/y", "other")
		if got := get("a/x", 0, -1); got != "0123456789" {
			t.Errorf("got %q", got)
		}
		if got := get("a/x", 3, 4) + get("a/x", 8, -1) + get("a/empty", 0, -1) + get("a/x", 2, 0); got != "345689" {
			t.Errorf("parts %q", got)
		}
		put("a/x", "replaced")
		if got := get("a/x", 0, -1); got != "replaced" {
			t.Errorf("replaced: %q", got)
		}
		if got := list("a/"); !slices.Equal(got, []string{"a/empty 0", "a/x 8"}) {
			t.Errorf("list %v", got)
		}
		if got := list(""); len(got) != 3 {
			t.Errorf("list of all %v", got)
		}
		if got := list("none/"); len(got) > 0 {
			t.Errorf("list of nothing %v", got)
		}
		for i, want := range []bool{true, false} {
			if made, err := b.PutNew(ctx, "new/n", strings.NewReader(fmt.Sprint("try ", i))); err != nil || made != want {
				t.Errorf("PutNew %d: %v, %v", i, made, err)
			}
		}
		if got := get("new/n", 0, -1); got != "try 0" {
			t.Errorf("PutNew replaced: %q", got)
		}
		for _, try := range []struct {
			name, old, text string
			want            bool
		}{{"new/n", "try", "a", false}, {"new/n", "try 01", "b", false}, {"new/n", "try 0", "c", true}, {"new/n", "try 0", "d", false}, {"new/none", "", "e", false}} {
			if made, err := b.Replace(ctx, try.name, []byte(try.old), strings.NewReader(try.text)); err != nil || made != try.want {
				t.Errorf("Replace %+v: %v, %v", try, made, err)
			}
		}
		if got := get("new/n", 0, -1); got != "c" {
			t.Errorf("after Replace: %q", got)
		}
		noError(t, b.Delete(ctx, "a/x", "a/never", "ab/y"))
		if got := list(""); len(got) != 2 {
			t.Errorf("after Delete %v", got)
		}
	})
}

// TestReaderFails: a Put whose reader finds damage stores nothing.
func TestReaderFails(t *testing.T) {
	buckets(t, func(t *testing.T, b Bucket) {
		bad := &failing{Reader: bytes.NewReader(make([]byte, 1<<20)), after: 1 << 19}
		if err := b.Put(t.Context(), "x/y", bad); err == nil {
			t.Error("it was stored")
		}
		if r, err := b.Get(t.Context(), "x/y", 0, -1); !errors.Is(err, fs.ErrNotExist) {
			data, rerr := io.ReadAll(r)
			t.Errorf("something is there: %v, %d bytes, %v", err, len(data), rerr)
		}
	})
}

type failing struct {
	*bytes.Reader
	after int
}

func (f *failing) Read(b []byte) (int, error) {
	n, err := f.Reader.Read(b[:min(len(b), 4096)])
	if f.after -= n; f.after < 0 {
		return 0, errors.New("wrong bytes")
	}
	return n, err
}

func (f *failing) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{f})
}

func TestManyNames(t *testing.T) {
	buckets(t, func(t *testing.T, b Bucket) {
		const n = 1203 // more than a page of S3's
		var wg sync.WaitGroup
		var next atomic.Int64
		for range 8 {
			wg.Go(func() {
				for i := next.Add(1) - 1; i < n; i = next.Add(1) - 1 {
					if err := b.Put(t.Context(), fmt.Sprintf("p/%05d", i), strings.NewReader("x")); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		i := 0
		for item, err := range b.List(t.Context(), "p/") {
			noError(t, err)
			if want := fmt.Sprintf("p/%05d", i); item.Name != want {
				t.Fatalf("%s instead of %s", item.Name, want)
			}
			i++
		}
		if i != n {
			t.Errorf("%d names", i)
		}
	})
}

func TestLargePut(t *testing.T) {
	if testing.Short() {
		t.Skip("large")
	}
	buckets(t, func(t *testing.T, b Bucket) {
		data := bytes.Repeat([]byte("0123456789abcde\n"), (partsFrom*uploadPart+5<<20)/16)
		copy(data[uploadPart-3:], "seam")
		noError(t, b.Put(t.Context(), "large/x", bytes.NewReader(data)))
		r, err := b.Get(t.Context(), "large/x", 0, -1)
		noError(t, err)
		defer r.Close()
		got, err := io.ReadAll(r)
		noError(t, err)
		if !bytes.Equal(got, data) {
			t.Errorf("%d bytes came back, not the %d that were put", len(got), len(data))
		}
	})
}
