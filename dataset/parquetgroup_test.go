package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
)

// writeGroups writes a file of row groups of these sizes, the rows' ids being their numbers from 1, and returns where the pages
// of each group begin.
func writeGroups(t *testing.T, path string, sizes []int) (begins []int64) {
	t.Helper()
	var file bytes.Buffer
	w := parquet.NewGenericWriter[parquetRow](&file, parquet.Compression(&parquet.Snappy))
	n := 0
	for _, size := range sizes {
		for range size {
			n++
			row := Row{ID: fmt.Sprint(n), Messages: []Message{{Role: User, Content: fmt.Sprint("how many are ", n, "?")}}}
			if _, err := w.Write([]parquetRow{toParquet(&row)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, file.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := parquet.OpenFile(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range f.Metadata().RowGroups {
		begins = append(begins, group.Columns[0].MetaData.DataPageOffset)
	}
	return begins
}

func atProcessors(t *testing.T, n int) {
	before := runtime.GOMAXPROCS(n)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

// Row groups are read by several goroutines; their rows come in their order and with their numbers all the same.
func TestRowGroupsComeInTheirOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "groups.parquet")
	sizes := []int{1, 700, 3, 1200, 1, 1, 40, 2, 90, 511, 513, 5}
	writeGroups(t, path, sizes)
	for _, processors := range []int{1, 2, 5, 20} {
		t.Run(fmt.Sprint(processors), func(t *testing.T) {
			atProcessors(t, processors)
			r, err := OpenRows(path)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			n := 0
			for {
				row, err := r.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				n++
				if want := fmt.Sprint(n); row.ID != want || r.Where() != path+" row "+want {
					t.Fatalf("row %d is %q, %s", n, row.ID, r.Where())
				}
			}
			if want := 3067; n != want {
				t.Errorf("%d rows of %d", n, want)
			}
			if _, err := r.Next(); !errors.Is(err, io.EOF) {
				t.Errorf("behind the end: %v", err)
			}
		})
	}
}

// A damaged row group is an error behind all rows before it, whichever goroutine meets it first.
func TestDamagedRowGroupIsTold(t *testing.T) {
	atProcessors(t, 4)
	path := filepath.Join(t.TempDir(), "groups.parquet")
	begins := writeGroups(t, path, []int{600, 20, 30, 40, 50})
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range []int{2, 4} {
		copy(raw[begins[group]:], bytes.Repeat([]byte{0xff}, 30))
	}
	if err := os.WriteFile(path, raw, 0o666); err != nil {
		t.Fatal(err)
	}
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	rows := 0
	for err == nil {
		var b *Batch
		if b, err = r.Next(); err == nil {
			rows += len(b.records)
		}
	}
	var bad *RowError
	if !errors.As(err, &bad) || bad.Number != 621 || rows != 620 {
		t.Errorf("after %d rows: %v", rows, err)
	}
}

// Whoever closes a reader early leaves no goroutine behind.
func TestClosedEarly(t *testing.T) {
	atProcessors(t, 4)
	path := filepath.Join(t.TempDir(), "groups.parquet")
	writeGroups(t, path, slices.Repeat([]int{1300}, 12))
	before := runtime.NumGoroutine()
	for range 20 {
		r, err := Open(path, "id")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// A goroutine still counts for a moment after it said that it is done.
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, before %d", runtime.NumGoroutine(), before)
		}
	}
}
