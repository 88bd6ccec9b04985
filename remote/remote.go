package remote

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"lpipe/cache"
)

// Options are what may be tuned. The zero value is good.
type Options struct {
	Jobs     int   // requests at once; 0: 16
	InFlight int64 // bytes held in memory at once; 0: 24 MiB
	PackSize int64 // of packs; 0: 4 MiB
	Small    int64 // objects below this go into packs; 0: 1 MiB
	Retry    Retry
	Indexes  string           // folder that keeps indexes already read; "": in the cache's
	Host     string           // for messages to others who wait: who holds a lock
	Now      func() time.Time // default time.Now

	Trust []ed25519.PublicKey // whose results count; none: everybody's
}

// Stats counts what a push or a fetch did.
type Stats struct {
	Objects  int   // sent or brought
	Bytes    int64 // of these objects
	Results  int
	Signed   int      // results that stood there already without a signature that counts
	Unsigned []string // remotes that results came from which a push that signs sent without its signature
	Requests int
}

// Progress is told while a push or a fetch goes on. All counts are of objects.
type Progress struct {
	Objects, TotalObjects int
	Bytes, TotalBytes     int64
}

// Remote is a bucket that shares a cache.
type Remote struct {
	o      Options
	bucket counting
	cache  *cache.Cache
	bytes  *semaphore.Weighted // in flight

	signer ed25519.PrivateKey // nil: results are sent unsigned

	mu    sync.Mutex
	index *index // nil until loaded
}

// New joins a bucket and a cache. It makes no request.
func New(bucket Bucket, c *cache.Cache, o Options) *Remote {
	if o.Jobs == 0 {
		o.Jobs = 16
	}
	if o.InFlight == 0 {
		o.InFlight = 24 << 20
	}
	if o.PackSize == 0 {
		o.PackSize = 4 << 20
	}
	if o.Small == 0 {
		o.Small = 1 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Indexes == "" {
		name := cache.Sum([]byte(bucket.String())).String()[:16]
		o.Indexes = filepath.Join(c.Dir(), "remotes", name)
	}
	return &Remote{o: o, bucket: newCounting(bucket), cache: c, bytes: semaphore.NewWeighted(o.InFlight)}
}

// String says where the remote is.
func (r *Remote) String() string { return r.bucket.String() }

// SignWith makes later pushes sign the results that they send, if they were made here: of others the signer knows nothing.
func (r *Remote) SignWith(key ed25519.PrivateKey) { r.signer = key }

// Trust gives the keys whose results count; none: everybody's do.
func (r *Remote) Trust() []ed25519.PublicKey { return r.o.Trust }

// Requests is how many were made since New.
func (r *Remote) Requests() int { return r.bucket.requests() }

// names in the bucket
func objectName(id cache.ID) string { return hashName("objects", id) }
func packName(id cache.ID) string   { return "packs/" + id.String() }
func indexName(id cache.ID) string  { return "index/" + id.String() }

func resultName(k cache.Key) string { return hashName("results", cache.ID(k)) }

// hashName spreads names, because S3 splits its load by prefix.
func hashName(kind string, id cache.ID) string {
	h := id.String()
	return kind + "/" + h[:2] + "/" + h[2:]
}

// parseName is the hash in a name of one of the kinds above.
func parseName(kind, name string) (cache.ID, bool) {
	rest, ok := strings.CutPrefix(name, kind+"/")
	if !ok {
		return cache.ID{}, false
	}
	id, err := cache.ParseID(strings.Replace(rest, "/", "", 1))
	return id, err == nil
}

// read gets a whole small thing, or a part whose length is known; a cut answer is tried again.
func (r *Remote) read(ctx context.Context, name string, offset, length int64, check func([]byte) error) (data []byte, err error) {
	var wrong cache.ID // what came last and was not right: the same again is not the network's
	err = r.o.Retry.do(ctx, func() error {
		body, err := r.stream(ctx, name, offset, length)
		if err != nil {
			return err
		}
		defer body.Close()
		if length >= 0 {
			data = make([]byte, length)
			_, err = io.ReadFull(body, data)
		} else {
			data, err = io.ReadAll(io.LimitReader(body, 1<<30))
		}
		if err == nil && check != nil {
			if err := check(data); err != nil {
				before := wrong
				wrong = cache.Sum(data)
				return r.fail(Damaged, "get", name, wrong != before, err)
			}
		}
		return err
	})
	return data, err
}

// stream is Bucket.Get, whose body then fails with an Error where the connection breaks or where fewer bytes come than
// were asked for.
func (r *Remote) stream(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	body, err := r.bucket.Get(ctx, name, offset, length)
	if err != nil {
		return nil, err
	}
	return &stream{ReadCloser: body, r: r, name: name, length: length}, nil
}

type stream struct {
	io.ReadCloser
	r            *Remote
	name         string
	length, came int64 // length below 0: not known
}

func (s *stream) Read(b []byte) (int, error) {
	n, err := s.ReadCloser.Read(b)
	s.came += int64(n)
	switch {
	case err == nil || err == io.EOF && (s.length < 0 || s.came == s.length):
	case err == io.EOF && s.came > s.length:
		err = s.r.fail(Damaged, "get", s.name, true, fmt.Errorf("%d bytes came instead of %d", s.came, s.length))
	case err == io.EOF:
		err = &Error{
			Kind: Network, Op: "get", Name: s.name, Where: s.r.String(), Retry: true, short: true,
			Err: fmt.Errorf("%d bytes came instead of %d", s.came, s.length),
		}
	case !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded):
		err = s.r.fail(Network, "get", s.name, true, err)
	}
	return n, err
}

func (r *Remote) put(ctx context.Context, name string, data []byte) error {
	return r.o.Retry.do(ctx, func() error { return r.bucket.Put(ctx, name, bytes.NewReader(data)) })
}

func (r *Remote) delete(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	return r.o.Retry.do(ctx, func() error { return r.bucket.Delete(ctx, names...) })
}

// list collects all names with a prefix; a listing that broke off starts anew.
func (r *Remote) list(ctx context.Context, prefix string) (items []Item, err error) {
	err = r.o.Retry.do(ctx, func() error {
		items = items[:0]
		for item, err := range r.bucket.List(ctx, prefix) {
			if err != nil {
				return err
			}
			items = append(items, item)
		}
		return nil
	})
	return items, err
}

func (r *Remote) fail(kind Kind, op, name string, again bool, err error) error {
	if kind == Damaged && !errors.Is(err, cache.ErrDamaged) {
		err = fmt.Errorf("%w: %w", cache.ErrDamaged, err)
	}
	return &Error{Kind: kind, Op: op, Name: name, Where: r.String(), Retry: again, Err: err}
}

// Result returns what is recorded under a key: one request. cache.ErrNotFound where nothing is, and where what
// is there cannot be used an error that is cache.ErrDamaged, or cache.ErrUntrusted. It brings no content.
func (r *Remote) Result(ctx context.Context, k cache.Key) (*cache.Result, error) {
	result, err := r.anyResult(ctx, k)
	if err != nil || len(r.o.Trust) == 0 {
		return result, err
	}
	if err := trusted(k, result, r.o.Trust); err != nil {
		return nil, fmt.Errorf("result %s of stage %s at %s: %w", k, result.Record.Stage, r, err)
	}
	return result, nil
}

// anyResult is Result for one that need not be trusted.
func (r *Remote) anyResult(ctx context.Context, k cache.Key) (*cache.Result, error) {
	result, _, err := r.resultBytes(ctx, k)
	return result, err
}

// resultBytes is anyResult, and the bytes that it was made of, damaged or not.
func (r *Remote) resultBytes(ctx context.Context, k cache.Key) (*cache.Result, []byte, error) {
	var result *cache.Result
	data, err := r.read(ctx, resultName(k), 0, -1, func(data []byte) (err error) {
		result, err = cache.DecodeResult(k, data)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("result %s at %s: %w", k, r, cache.ErrNotFound)
	}
	if err == nil {
		result.From = r.String()
	}
	return result, data, err
}

// Content brings all objects of a content that the cache lacks: Fetch of one.
func (r *Remote) Content(ctx context.Context, want cache.Content) error {
	return r.Contents(ctx, []cache.Content{want})
}

// Contents brings all objects of some contents that the cache lacks: Fetch without its counts.
func (r *Remote) Contents(ctx context.Context, want []cache.Content) error {
	_, err := r.Fetch(ctx, want, nil)
	return err
}

// wrap says what was tried, and where unless the error says that already.
func (r *Remote) wrap(what string, err error) error {
	var e *Error
	if errors.As(err, &e) {
		verb, _, _ := strings.Cut(what, " ")
		return fmt.Errorf("%s: %w", verb, err)
	}
	return fmt.Errorf("%s %s: %w", what, r, err)
}
