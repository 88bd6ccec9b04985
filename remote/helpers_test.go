package remote

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"lpipe/cache"
)

// memory is a bucket for tests, with a count of each operation and a hook that can make one fail.
type memory struct {
	mu    sync.Mutex
	names map[string][]byte
	times map[string]time.Time
	fault func(op, name string) error
	did   []string
}

func newMemory() *memory { return &memory{names: map[string][]byte{}, times: map[string]time.Time{}} }

func (m *memory) do(op, name string) error {
	m.did = append(m.did, op+" "+name)
	if m.fault != nil {
		return m.fault(op, name)
	}
	return nil
}

func (m *memory) String() string { return "memory" }

func (m *memory) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.do("get", name); err != nil {
		return nil, err
	}
	data, ok := m.names[name]
	if !ok {
		return nil, &Error{Kind: Other, Op: "get", Name: name, Where: "memory", Err: fs.ErrNotExist}
	}
	data = data[min(offset, int64(len(data))):]
	if length >= 0 {
		data = data[:min(length, int64(len(data)))]
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (m *memory) Put(_ context.Context, name string, r io.ReadSeeker) error {
	_, err := m.put(name, r, func([]byte, bool) bool { return true })
	return err
}

func (m *memory) PutNew(_ context.Context, name string, r io.ReadSeeker) (bool, error) {
	return m.put(name, r, func(_ []byte, taken bool) bool { return !taken })
}

func (m *memory) Replace(_ context.Context, name string, old []byte, r io.ReadSeeker) (bool, error) {
	return m.put(name, r, func(now []byte, taken bool) bool { return taken && bytes.Equal(now, old) })
}

// put looks whether what is under the name may go, and takes it, at one moment: of many that come at once one is the first.
func (m *memory) put(name string, r io.ReadSeeker, may func(now []byte, taken bool) bool) (bool, error) {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	data, err := io.ReadAll(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	if now, taken := m.names[name]; !may(now, taken) {
		return false, nil
	}
	if err := m.do("put", name); err != nil {
		return false, err
	}
	if err != nil {
		return false, err
	}
	m.names[name], m.times[name] = data, time.Now()
	return true, nil
}

func (m *memory) List(ctx context.Context, prefix string) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		m.mu.Lock()
		err := m.do("list", prefix)
		names := maps.Clone(m.names)
		times := maps.Clone(m.times)
		m.mu.Unlock()
		if err != nil {
			yield(Item{}, err)
			return
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			if strings.HasPrefix(name, prefix) && !yield(Item{name, int64(len(names[name])), times[name]}, nil) {
				return
			}
		}
	}
}

func (m *memory) Delete(ctx context.Context, names ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range names {
		if err := m.do("delete", name); err != nil {
			return err
		}
		delete(m.names, name)
	}
	return nil
}

// s3Config is the server that tools/services/s3.sh started; the test is skipped without one.
func s3Options(t testing.TB, endpoint string) S3Options {
	t.Helper()
	if os.Getenv(endpoint) == "" {
		missing := endpoint + " is not set (tools/services/s3.sh up --faults delay=0 DIR prints it; make test starts one)"
		if os.Getenv("LPIPE_TEST_REQUIRE") != "" {
			t.Fatal("an S3 server is required: " + missing)
		}
		t.Skip("no S3 server: " + missing)
	}
	return S3Options{
		Config: aws.Config{
			Region:      os.Getenv("AWS_REGION"),
			Credentials: credentials.NewStaticCredentialsProvider(os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), ""),
		},
		Bucket:   os.Getenv("LPIPE_TEST_S3_BUCKET"),
		Prefix:   fmt.Sprintf("%s-%d", strings.NewReplacer("/", "-", " ", "-", ",", "").Replace(t.Name()), time.Now().UnixNano()),
		Endpoint: os.Getenv(endpoint),
		Retry:    quick,
	}
}

// quick is Retry for tests.
var quick = Retry{Attempts: 10, First: 5 * time.Millisecond}

// faults sets what the proxy does, and ends that with the test. Scripts of cmd/lpipe use the same proxy, at the same time
// perhaps: whoever changes it holds the lock.
func faults(t *testing.T, list string) {
	t.Helper()
	s3Options(t, "LPIPE_TEST_S3_FAULTS") // skips without a server
	name := "lpipe-test-" + strings.NewReplacer("/", "", ":", "-").Replace(os.Getenv("LPIPE_TEST_S3_FAULTS"))
	lock, err := cache.LockFile(t.Context(), filepath.Join(os.TempDir(), name), true, nil)
	noError(t, err)
	t.Cleanup(func() { lock.Release() })
	t.Cleanup(func() { setFaults(t, "delay=0") })
	setFaults(t, list)
}

// setFaults changes what the proxy does, for whoever called faults before.
func setFaults(t *testing.T, list string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPut, os.Getenv("LPIPE_TEST_S3_FAULTS"), strings.NewReader(list))
	noError(t, err)
	resp, err := http.DefaultClient.Do(req)
	noError(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("faults %q: %s", list, resp.Status)
	}
}

// harmed is how many faults the proxy did.
func harmed(t *testing.T) string {
	resp, err := http.Get(os.Getenv("LPIPE_TEST_S3_FAULTS"))
	noError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	noError(t, err)
	return string(b)
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// buckets runs a test against every kind of bucket.
func buckets(t *testing.T, test func(t *testing.T, b Bucket)) {
	t.Run("memory", func(t *testing.T) { test(t, newMemory()) })
	t.Run("dir", func(t *testing.T) {
		d, err := NewDir(filepath.Join(t.TempDir(), "bucket"))
		noError(t, err)
		test(t, d)
	})
	t.Run("s3", func(t *testing.T) { test(t, NewS3(s3Options(t, "LPIPE_TEST_S3_DIRECT"))) })
}

func newCache(t testing.TB) *cache.Cache {
	t.Helper()
	c, err := cache.Open(t.Context(), cache.Options{Dir: t.TempDir()})
	noError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// folder makes a folder with n small files, a large one, a subfolder, an empty file and an executable, and adds it.
func folder(t testing.TB, c *cache.Cache, n, large int) cache.Content {
	t.Helper()
	dir := t.TempDir()
	noError(t, os.MkdirAll(dir+"/sub/deep", 0o755))
	for i := range n {
		noError(t, os.WriteFile(fmt.Sprintf("%s/sub/%05d", dir, i), fmt.Appendf(nil, "%0100d", i), 0o644))
	}
	big := make([]byte, large)
	for i := range big {
		big[i] = byte(i*7 + i>>8*13 + i>>16)
	}
	noError(t, os.WriteFile(dir+"/large.bin", big, 0o644))
	noError(t, os.WriteFile(dir+"/sub/deep/empty", nil, 0o644))
	noError(t, os.WriteFile(dir+"/run.sh", []byte("#!/bin/sh\n"), 0o755))
	content, err := c.Add(t.Context(), nil, dir, cache.AddOptions{})
	noError(t, err)
	return content
}

// result records a result with that output.
func result(t testing.TB, c *cache.Cache, text string, out cache.Content) cache.Key {
	t.Helper()
	k := cache.SumKey(text)
	noError(t, c.PutResult(k, &cache.Result{
		Outputs:     map[string]cache.Content{"out": out},
		Description: text,
		Record:      cache.Record{Stage: "one", Kind: "shell", Started: time.Now()},
	}))
	return k
}

// whole fails unless a cache holds all of a content, undamaged.
func whole(t testing.TB, c *cache.Cache, want cache.Content) {
	t.Helper()
	missing, err := c.Missing(t.Context(), want)
	noError(t, err)
	if len(missing) > 0 {
		t.Errorf("%d objects are missing", len(missing))
	}
	report, err := c.Fsck(t.Context(), cache.FsckOptions{Full: true})
	noError(t, err)
	if len(report.Problems) > 0 {
		t.Errorf("%+v", report.Problems)
	}
}
