package download

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// transfer is one file's way here: ranges of it, several at once, into a partial file that outlives failures.
type transfer struct {
	*Client
	locate func(context.Context) (location, error)
	size   int64  // -1: unknown
	tag    string // what identifies the bytes across attempts: a hash, or a strong ETag; "": nothing does
	ifTag  bool   // tag is an ETag: a changed file is told by asking with If-Range
	count  func(bytes int64)

	mu    sync.Mutex // guards what follows
	at    location
	known bool
	file  *os.File
	path  string
	state partial
	saved time.Time
}

// partial is what is known of a partial file; it lies beside it as JSON.
type partial struct {
	Version int    `json:"version"`
	Size    int64  `json:"size"`
	Chunk   int64  `json:"chunk"`
	Tag     string `json:"tag"`
	Done    []bool `json:"done"`
}

const (
	partialVersion = 1
	saveEvery      = 2 * time.Second // a sync for each save: not after every range
	readBuffer     = 256 << 10
)

// errChanged is a file that is not any more what it was when its first range came.
var errChanged = errors.New("the file changed at its address while it was downloaded")

// errWhole is an answer with the whole file to a request for a part of it.
var errWhole = errors.New("the server knows no ranges")

// errStalled is a connection that stays open and brings nothing.
var errStalled = errors.New("nothing arrived for too long")

func statePath(path string) string { return path + ".json" }

// run fills the file at a path and leaves it synced. What an earlier run left there is not fetched again.
func (t *transfer) run(ctx context.Context, path string) (err error) {
	t.path = path
	if t.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return err
	}
	defer func() {
		if closed := t.file.Close(); err == nil {
			err = closed
		}
	}()
	if err := t.resume(); err != nil {
		return err
	}
	if t.size < 0 || t.tag == "" { // nothing would tell ranges of two versions apart
		err = t.whole(ctx)
	} else {
		err = t.ranges(ctx)
	}
	if err != nil && !errors.Is(err, errChanged) {
		t.save(true)
		return err
	}
	if err != nil {
		return err
	}
	return t.file.Sync()
}

// resume takes up a partial file, if it is one of the same bytes.
func (t *transfer) resume() error {
	chunks := 0
	if t.size > 0 {
		chunks = int((t.size + t.Chunk - 1) / t.Chunk)
	}
	data, err := os.ReadFile(statePath(t.path))
	if err == nil && t.tag != "" && json.Unmarshal(data, &t.state) == nil && t.state.Version == partialVersion &&
		t.state.Size == t.size && t.state.Tag == t.tag && t.state.Chunk == t.Chunk && len(t.state.Done) == chunks {
		for i, done := range t.state.Done {
			if done {
				t.count(t.span(i))
			}
		}
		return nil
	}
	t.state = partial{Version: partialVersion, Size: t.size, Chunk: t.Chunk, Tag: t.tag, Done: make([]bool, chunks)}
	return t.file.Truncate(max(t.size, 0))
}

// span is how many bytes a chunk has.
func (t *transfer) span(i int) int64 { return min(t.Chunk, t.size-int64(i)*t.Chunk) }

// save writes down which chunks are here, after they are on disk: a state that promises more than the disk holds would
// cost a whole download.
func (t *transfer) save(now bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tag == "" || !now && time.Since(t.saved) < saveEvery {
		return
	}
	t.saved = time.Now()
	data, err := json.Marshal(t.state)
	if err != nil || t.file.Sync() != nil {
		return
	}
	temp := statePath(t.path) + ".new"
	if os.WriteFile(temp, data, 0o644) == nil {
		os.Rename(temp, statePath(t.path)) // a resume that is lost costs time, nothing else
	}
}

// ranges fetches the chunks that are missing: the first alone, since its answer tells whether the server knows ranges.
func (t *transfer) ranges(ctx context.Context) error {
	var missing []int
	for i, done := range t.state.Done {
		if !done {
			missing = append(missing, i)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if err := t.chunk(ctx, missing[0]); errors.Is(err, errWhole) {
		return t.whole(ctx)
	} else if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(t.Connections)
	for _, i := range missing[1:] {
		group.Go(func() error {
			err := t.chunk(ctx, i)
			if errors.Is(err, errWhole) {
				return errChanged // it knew ranges before
			}
			return err
		})
	}
	return group.Wait()
}

// chunk fetches one chunk; a drop costs only what had not arrived.
func (t *transfer) chunk(ctx context.Context, i int) error {
	start, span, got := int64(i)*t.Chunk, t.span(i), int64(0)
	err := t.request(ctx, func(at location) (int64, error) {
		header := http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", start+got, start+span-1)}}
		if t.ifTag {
			header.Set("If-Range", `"`+t.tag+`"`)
		}
		ctx, cut := context.WithCancelCause(ctx)
		defer cut(nil)
		answer, err := t.get(ctx, at, header)
		if err != nil {
			return 0, err
		}
		defer answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			return 0, errWhole
		}
		var first, last, total int64
		if n, _ := fmt.Sscanf(answer.Header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &total); n < 2 || first != start+got || n == 3 && total != t.size {
			return 0, errChanged
		}
		n, err := t.copy(answer, cut, start+got, span-got)
		got += n
		return n, err
	})
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.state.Done[i] = true
	t.mu.Unlock()
	t.save(false)
	return nil
}

// whole fetches the file in one answer, from the beginning whenever it breaks off.
func (t *transfer) whole(ctx context.Context) error {
	return t.request(ctx, func(at location) (int64, error) {
		ctx, cut := context.WithCancelCause(ctx)
		defer cut(nil)
		answer, err := t.get(ctx, at, nil)
		if err != nil {
			return 0, err
		}
		defer answer.Body.Close()
		if err := t.file.Truncate(0); err != nil {
			return 0, err
		}
		want := t.size
		if want < 0 {
			want = answer.ContentLength
		}
		n, err := t.copy(answer, cut, 0, want)
		if err != nil {
			t.count(-n)
			return 0, err
		}
		if t.size >= 0 {
			for i := range t.state.Done {
				t.state.Done[i] = true
			}
		}
		return n, nil
	})
}

// request does one exchange with the file's place until it succeeds. A place that refuses may have been a signed
// address that expired: it is asked for again.
func (t *transfer) request(ctx context.Context, exchange func(location) (int64, error)) error {
	select {
	case t.busy <- struct{}{}:
		defer func() { <-t.busy }()
	case <-ctx.Done():
		return ctx.Err()
	}
	refused := 0
	return t.retry(ctx, func() (bool, error) {
		at, err := t.place(ctx)
		if err != nil {
			return false, err
		}
		n, err := exchange(at)
		var failure *Error
		if errors.As(err, &failure) && (failure.Kind == Denied || failure.Kind == NotFound || failure.Status == http.StatusBadRequest) && refused < 3 {
			if n > 0 {
				refused = 0
			}
			refused++
			t.forget(at)
			failure.Kind, failure.Status, failure.after = Network, 0, time.Millisecond // pass through retry at once
		} else if err == nil {
			refused = 0
		}
		return n > 0, err
	})
}

// place is where the file is for now.
func (t *transfer) place(ctx context.Context) (location, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known {
		return t.at, nil
	}
	at, err := t.locate(ctx)
	if err == nil {
		t.at, t.known = at, true
	}
	return at, err
}

// forget makes the next place ask again, unless somebody did already.
func (t *transfer) forget(at location) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.at.url == at.url {
		t.known = false
	}
}

// get requests bytes and follows redirects to anywhere: send keeps the token at home.
func (t *transfer) get(ctx context.Context, at location, header http.Header) (*http.Response, error) {
	address := at.url
	for range maxRedirect {
		answer, err := t.send(ctx, http.MethodGet, address, header)
		if err != nil {
			return nil, err
		}
		if to, moved := redirect(answer); moved {
			discard(answer)
			address = to.String()
			continue
		}
		if answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusPartialContent {
			discard(answer)
			return nil, refusal(answer)
		}
		return answer, nil
	}
	return nil, &Error{Kind: Server, Status: http.StatusLoopDetected, URL: shown(at.url), Message: "too many redirects"}
}

// copy writes an answer's bytes to their place in the file, want of them; -1: as many as come. A connection that brings
// nothing for too long is cut.
func (t *transfer) copy(answer *http.Response, cut context.CancelCauseFunc, offset, want int64) (n int64, err error) {
	stalled := time.AfterFunc(t.Stall, func() { cut(errStalled) })
	defer stalled.Stop()
	broken := func(err error) error {
		return &Error{Kind: Network, URL: shown(answer.Request.URL.String()), Message: "the answer breaks off", Err: err}
	}
	buffer := make([]byte, readBuffer)
	for want < 0 || n < want {
		room := buffer
		if want >= 0 {
			room = buffer[:min(int64(len(buffer)), want-n)]
		}
		read, err := answer.Body.Read(room)
		if read > 0 {
			if _, err := t.file.WriteAt(room[:read], offset+n); err != nil {
				return n, err
			}
			n += int64(read)
			t.count(int64(read))
			stalled.Reset(t.Stall)
		}
		switch {
		case err == io.EOF && (want < 0 || n == want):
			return n, nil
		case err == io.EOF:
			return n, broken(io.ErrUnexpectedEOF)
		case err != nil:
			if cause := context.Cause(answer.Request.Context()); errors.Is(cause, errStalled) {
				err = cause
			} else if cause != nil {
				return n, cause
			}
			return n, broken(err)
		}
	}
	return n, nil
}
