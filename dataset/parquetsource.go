package dataset

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"

	"github.com/parquet-go/parquet-go"
)

const parquetMagic = "PAR1"

// parquetSource reads the row groups of a file, the next ones ahead of the one in hand, each on a goroutine of its own.
type parquetSource struct {
	path    string
	size    int64
	file    *parquet.File
	columns []string
	wanted  []*parquet.Column // top-level
	rows    int64             // handed out
	total   int64

	groups  chan chan groupBatch // of the row groups, in their order; nil before the first batch
	inHand  chan groupBatch      // of the group that is being handed out
	stop    chan struct{}        // closed: nobody takes batches any more
	readers sync.WaitGroup
	err     error // what ended the rows
}

// groupBatch is a batch of a row group, or why there is none.
type groupBatch struct {
	batch *Batch
	err   error
}

func openParquet(path string, file *os.File, size int64, want map[string]bool) (*parquetSource, error) {
	if size == 0 {
		return nil, fmt.Errorf("%s is empty: a Parquet file without rows has a footer", path)
	}
	f, err := openParquetFile(file, size)
	if err != nil {
		head := make([]byte, 4)
		if _, e := file.ReadAt(head, 0); e == nil && string(head) == parquetMagic {
			return nil, fmt.Errorf("%s begins as a Parquet file but has no footer at its end: it was cut off; fetch or write it again (%w)", path, err)
		}
		return nil, fmt.Errorf("%s is no Parquet file: %w", path, err)
	}
	s := &parquetSource{path: path, size: size, file: f, total: f.NumRows()}
	for _, column := range f.Root().Columns() {
		if slices.Contains(s.columns, column.Name()) && (want == nil || want[column.Name()]) {
			return nil, errTwice(path, column.Name())
		}
		s.columns = append(s.columns, column.Name())
		if want == nil || want[column.Name()] {
			s.wanted = append(s.wanted, column)
		}
	}
	return s, nil
}

// openParquetFile turns a panic over a damaged footer into an error.
func openParquetFile(file *os.File, size int64) (f *parquet.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			f, err = nil, fmt.Errorf("damaged footer: %v", r)
		}
	}()
	return parquet.OpenFile(file, size, &parquet.FileConfig{SkipPageIndex: true, SkipBloomFilters: true, ReadBufferSize: 256 << 10, ReadMode: parquet.ReadModeSync})
}

// errTwice says of a column that is wanted that the file has two of them.
func errTwice(path, column string) error {
	return fmt.Errorf("%s has two columns %q: which one is meant? Name them apart", path, column)
}

func (s *parquetSource) next() (*Batch, error) {
	if s.groups == nil && s.err == nil {
		s.start()
	}
	for s.err == nil {
		if got, ok := <-s.inHand; ok {
			if s.err = got.err; s.err != nil {
				break
			}
			s.rows += int64(len(got.batch.records))
			got.batch.Read = int64(float64(s.size) * float64(s.rows) / float64(max(s.total, 1)))
			return got.batch, nil
		}
		next, ok := <-s.groups
		if !ok {
			s.err = io.EOF
			break
		}
		s.inHand = next
	}
	return nil, s.err
}

// start reads the row groups on some goroutines, until all are read or stop is closed.
func (s *parquetSource) start() {
	const ahead = 2 // batches of a row group that wait
	readers := s.atOnce()
	s.groups, s.stop = make(chan chan groupBatch, readers-1), make(chan struct{})
	s.inHand = make(chan groupBatch)
	close(s.inHand)
	elements := leafElements(s.file)
	s.readers.Go(func() {
		defer close(s.groups)
		first := int64(1)
		for _, group := range s.file.RowGroups() {
			batches := make(chan groupBatch, ahead)
			select {
			case s.groups <- batches:
			case <-s.stop:
				return
			}
			g := &parquetGroup{path: s.path, group: group, wanted: s.wanted, elements: elements, row: first, left: group.NumRows()}
			s.readers.Go(func() { g.read(batches, s.stop) })
			first += group.NumRows()
		}
	})
}

// atOnce is how many row groups are read at once: reading takes about as long as what becomes of the rows. Fewer of large ones, of
// which a whole column may be a single page.
func (s *parquetSource) atOnce() int {
	const most, unpacked = 8, 128 << 20 // bytes
	largest := int64(1)
	for _, group := range s.file.Metadata().RowGroups {
		size := int64(0)
		for _, column := range group.Columns {
			if slices.ContainsFunc(s.wanted, func(c *parquet.Column) bool {
				return len(column.MetaData.PathInSchema) > 0 && c.Name() == column.MetaData.PathInSchema[0]
			}) {
				size += column.MetaData.TotalUncompressedSize
			}
		}
		largest = max(largest, size)
	}
	return int(max(1, min(most, int64(runtime.GOMAXPROCS(0)), unpacked/largest)))
}

func (s *parquetSource) close() error {
	if s.groups == nil {
		return nil
	}
	close(s.stop)
	s.readers.Wait()
	s.groups, s.err = nil, os.ErrClosed
	return nil
}
