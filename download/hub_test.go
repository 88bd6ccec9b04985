package download_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lpipe/download"
	"lpipe/download/hubtest"
)

// A repository with small files, which Git holds, and large ones, which the storage holds.
func model() map[string]string {
	return map[string]string{
		"config.json": `{"a":1}`, "README.md": "hello", "empty.txt": "", "with space & ü.txt": "x",
		"sub/deep/model-1.safetensors": random(1, 300_000), "model-2.safetensors": random(2, 65536), "data.bin": "",
	}
}

func random(seed uint64, size int) string {
	b := make([]byte, size)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

type bench struct {
	*testing.T
	hub    *hubtest.Hub
	client *download.Client
	repo   download.Repo
	commit string

	mu    sync.Mutex // guards slept
	slept []time.Duration
}

func newBench(t *testing.T, files map[string]string, change func(*download.Options)) *bench {
	t.Helper()
	b := &bench{T: t, hub: hubtest.Start()}
	t.Cleanup(b.hub.Close)
	b.commit = b.hub.Commit("org/model", "main", files)
	b.repo, _ = download.ParseRepo("org/model")
	o := download.Options{Endpoint: b.hub.URL, Cache: filepath.Join(t.TempDir(), "hub"), Chunk: 32 << 10}
	o.Sleep = func(ctx context.Context, d time.Duration) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.slept = append(b.slept, d)
		return ctx.Err()
	}
	if o.Connections = 4; change != nil {
		change(&o)
	}
	b.client = download.New(o)
	return b
}

func (b *bench) snapshot(o download.SnapshotOptions) (*download.Snapshot, error) {
	return b.client.Snapshot(context.Background(), b.repo, b.commit, o)
}

// placed downloads everything and returns the folder it makes.
func (b *bench) placed(o download.SnapshotOptions) map[string]string {
	b.Helper()
	s, err := b.snapshot(o)
	if err != nil {
		b.Fatal(err)
	}
	to := filepath.Join(b.TempDir(), "model")
	if err := s.Place(to); err != nil {
		b.Fatal(err)
	}
	return tree(b.T, to)
}

func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		files[filepath.ToSlash(rel)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func same(t *testing.T, got, want map[string]string) {
	t.Helper()
	for path := range want {
		if content, ok := got[path]; !ok || content != want[path] {
			t.Errorf("%s: %d bytes instead of %d", path, len(content), len(want[path]))
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			t.Errorf("%s should not be here", path)
		}
	}
}

func TestSnapshotSharesTheHubCache(t *testing.T) {
	b := newBench(t, model(), func(o *download.Options) { o.Token = "secret" })
	b.hub.Require("secret", false)
	b.hub.Pages(2)
	commit, err := b.client.Resolve(context.Background(), b.repo, "main")
	if err != nil || commit != b.commit {
		t.Fatalf("main is %s, %v", commit, err)
	}
	var last download.Progress
	same(t, b.placed(download.SnapshotOptions{Revision: "main", Progress: func(p download.Progress) { last = p }}), model())
	if last.Bytes != last.TotalBytes || last.Files != last.TotalFiles || last.Bytes != 300_000+65536+7+5+1 {
		t.Errorf("the last progress is %+v", last)
	}
	if stray := b.hub.Stray(); len(stray) > 0 {
		t.Errorf("the token went to another host with %v", stray)
	}
	// The layout that other programs read.
	root := filepath.Join(b.client.Cache, "models--org--model")
	ref, _ := os.ReadFile(filepath.Join(root, "refs", "main"))
	if string(ref) != commit {
		t.Errorf("refs/main holds %q", ref)
	}
	same(t, tree(t, filepath.Join(root, "snapshots", commit)), model())
	link, err := os.Readlink(filepath.Join(root, "snapshots", commit, "sub", "deep", "model-1.safetensors"))
	if err != nil || !strings.HasPrefix(link, "../../../../blobs/") || len(filepath.Base(link)) != 64 {
		t.Errorf("the link is %q, %v", link, err)
	}
	if _, err := os.Stat(filepath.Join(b.client.Cache, "CACHEDIR.TAG")); err != nil {
		t.Error(err)
	}
	left, _ := filepath.Glob(filepath.Join(root, "blobs", "*incomplete*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	// What lies there is not downloaded again, but looked at.
	b.hub.Requests()
	same(t, b.placed(download.SnapshotOptions{}), model())
	if got := b.hub.Requests(); slices.ContainsFunc(got, func(r string) bool { return strings.Contains(r, "resolve") || strings.Contains(r, "storage") }) {
		t.Errorf("downloaded again: %v", got)
	}
}

func TestDamagedBlobIsDownloadedAgain(t *testing.T) {
	b := newBench(t, model(), nil)
	b.placed(download.SnapshotOptions{})
	blobs, _ := filepath.Glob(filepath.Join(b.client.Cache, "models--org--model", "blobs", "*"))
	for _, blob := range blobs {
		os.Chmod(blob, 0o644)
		if err := os.WriteFile(blob, []byte("someone wrote here"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	same(t, b.placed(download.SnapshotOptions{}), model())
}

func TestIncludeAndExclude(t *testing.T) {
	b := newBench(t, model(), nil)
	got := b.placed(download.SnapshotOptions{Filter: download.Filter{Include: []string{"*.json", "*.safetensors"}, Exclude: []string{"model-[!1]*"}}})
	want := map[string]string{"config.json": model()["config.json"], "sub/deep/model-1.safetensors": model()["sub/deep/model-1.safetensors"]}
	same(t, got, want)
	if _, err := b.snapshot(download.SnapshotOptions{Filter: download.Filter{Include: []string{"*.gguf"}}}); err == nil || !strings.Contains(err.Error(), "leave none") {
		t.Error(err)
	}
}

// cut answers a request at the storage with half of what it asked for, then breaks the connection.
func cut(every int64) hubtest.Fault {
	var n atomic.Int64
	return func(w http.ResponseWriter, r *http.Request, storage bool) bool {
		if !storage || n.Add(1)%every != 0 {
			return false
		}
		w.Header().Set("Content-Range", "bytes "+strings.TrimPrefix(r.Header.Get("Range"), "bytes=")+"/*")
		w.Header().Set("Content-Length", "32768")
		w.WriteHeader(http.StatusPartialContent)
		panic(http.ErrAbortHandler)
	}
}

func TestBadNetworks(t *testing.T) {
	once := func(f func(w http.ResponseWriter, r *http.Request, storage bool) bool) hubtest.Fault {
		var mu sync.Mutex
		done := false
		return func(w http.ResponseWriter, r *http.Request, storage bool) bool {
			mu.Lock()
			defer mu.Unlock()
			if done || !f(w, r, storage) {
				return false
			}
			done = true
			return true
		}
	}
	limited := answer(http.StatusTooManyRequests, "RateLimit", `"resolvers";r=0;t=55`, "RateLimit-Policy", `"fixed window";"resolvers";q=3000;w=300`)
	for name, fault := range map[string]func(b *bench) hubtest.Fault{
		"drops in the middle of a range": func(*bench) hubtest.Fault { return cut(3) },
		"500 once at everything": func(*bench) hubtest.Fault {
			seen := map[string]bool{}
			var mu sync.Mutex
			return func(w http.ResponseWriter, r *http.Request, _ bool) bool {
				mu.Lock()
				defer mu.Unlock()
				key := r.Method + r.URL.Path + r.Header.Get("Range")
				if seen[key] {
					return false
				}
				seen[key] = true
				w.WriteHeader(http.StatusBadGateway)
				return true
			}
		},
		"429 at the list": func(*bench) hubtest.Fault { return once(limited) },
		"429 at a file": func(*bench) hubtest.Fault {
			return once(func(w http.ResponseWriter, r *http.Request, s bool) bool { return s && limited(w, r, s) })
		},
		"signed addresses expire": func(b *bench) hubtest.Fault {
			var n atomic.Int64
			return func(_ http.ResponseWriter, _ *http.Request, storage bool) bool {
				if storage && n.Add(1)%7 == 0 {
					b.hub.Expire()
				}
				return false
			}
		},
		"a wrong byte once": func(*bench) hubtest.Fault {
			return once(func(w http.ResponseWriter, r *http.Request, storage bool) bool {
				if !storage || r.Header.Get("Range") != "bytes=32768-65535" {
					return false
				}
				w.Header().Set("Content-Range", "bytes 32768-65535/"+strconv.Itoa(sizeOf(r.URL.Path)))
				w.WriteHeader(http.StatusPartialContent)
				w.Write(make([]byte, 32768))
				return true
			})
		},
		"a storage without ranges": func(*bench) hubtest.Fault {
			return func(_ http.ResponseWriter, r *http.Request, _ bool) bool { r.Header.Del("Range"); return false }
		},
		"a range of another place": func(*bench) hubtest.Fault {
			return once(func(w http.ResponseWriter, r *http.Request, storage bool) bool {
				return storage && answer(http.StatusPartialContent, "Content-Range", "bytes 5-9/300000")(w, r, storage)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, model(), nil)
			b.hub.Break(fault(b))
			same(t, b.placed(download.SnapshotOptions{}), model())
			if strings.HasPrefix(name, "429") && !slices.Contains(b.slept, 55*time.Second) {
				t.Errorf("waited %v, but RateLimit said 55 s", b.slept)
			}
		})
	}
}

// answer is a fault that answers every request so.
func answer(status int, headers ...string) hubtest.Fault {
	return func(w http.ResponseWriter, r *http.Request, _ bool) bool {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		return true
	}
}

func sizeOf(path string) int {
	for name, content := range model() {
		if strings.HasSuffix(path, name) {
			return len(content)
		}
	}
	return 0
}

func TestWhatNeverWorksIsAnError(t *testing.T) {
	for name, c := range map[string]struct {
		fault hubtest.Fault
		kind  download.Kind
		says  string
	}{
		"wrong bytes always": {func(w http.ResponseWriter, r *http.Request, storage bool) bool {
			if !storage {
				return false
			}
			r.URL.Path = strings.Replace(r.URL.Path, "model-2", "other", 1)
			return false
		}, download.Damaged, "arrived wrong twice; the server damages it, or something on the way: hash "},
		"always 429": {answer(http.StatusTooManyRequests, "Retry-After", "7"), download.Limited,
			"too many requests, still after 12 waits of 7s or so: try again later, or set HF_TOKEN, since hubs allow more to whom they know"},
		"429 for an hour": {answer(http.StatusTooManyRequests, "Retry-After", "3600"), download.Limited,
			"too many requests, and the server asks to wait 1h0m0s: try again later, or set HF_TOKEN"},
		"always 500": {func(w http.ResponseWriter, r *http.Request, s bool) bool { w.WriteHeader(500); return true }, download.Server, "500"},
		"refused at storage": {func(w http.ResponseWriter, r *http.Request, storage bool) bool {
			if storage {
				w.WriteHeader(http.StatusForbidden)
			}
			return storage
		}, download.Denied, "403"},
		"a page that is none": {func(w http.ResponseWriter, r *http.Request, s bool) bool { io.WriteString(w, "<html>"); return true },
			download.Server, "not the JSON of a hub"},
		"a path that leaves the folder": {func(w http.ResponseWriter, r *http.Request, s bool) bool {
			io.WriteString(w, `[{"type":"file","path":"../../evil","size":1,"oid":"`+strings.Repeat("a", 40)+`"}]`)
			return true
		}, download.Server, "no place inside a folder"},
	} {
		t.Run(name, func(t *testing.T) {
			files := model()
			files["other.safetensors"] = random(3, 65536)
			b := newBench(t, files, nil)
			b.hub.Break(c.fault)
			_, err := b.snapshot(download.SnapshotOptions{Filter: download.Filter{Include: []string{"model-2*"}}})
			var failure *download.Error
			if !errors.As(err, &failure) || failure.Kind != c.kind || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "signature") {
				t.Errorf("error %v, want kind %d and %q", err, c.kind, c.says)
			}
		})
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	for name, c := range map[string]struct {
		token, repo, revision string
		gated                 bool
		says                  []string
	}{
		"gated, no token":    {"", "org/model", "main", true, []string{"org/model is gated", "accept its terms at", "HF_TOKEN"}},
		"gated, wrong token": {"wrong", "org/model", "main", true, []string{"org/model is gated", "the token that was given"}},
		"private, no token":  {"", "org/model", "main", false, []string{"does not exist", "is private", "HF_TOKEN"}},
		"unknown repository": {"right", "org/modell", "main", false, []string{"org/modell does not exist", "datasets/ORG/NAME"}},
		"unknown revision":   {"right", "org/model", "dev/x", false, []string{`no revision "dev/x"`}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, model(), func(o *download.Options) { o.Token = c.token })
			b.hub.Require("right", c.gated)
			repo, err := download.ParseRepo(c.repo)
			if err != nil {
				t.Fatal(err)
			}
			_, err = b.client.Resolve(context.Background(), repo, c.revision)
			for _, says := range c.says {
				if err == nil || !strings.Contains(err.Error(), says) {
					t.Errorf("error %v does not say %q", err, says)
				}
			}
			if len(b.slept) > 0 {
				t.Error("a refusal is not tried again")
			}
		})
	}
}

func TestResumeAfterAFailure(t *testing.T) {
	b := newBench(t, model(), func(o *download.Options) { o.Connections = 1 })
	var served atomic.Int64
	b.hub.Break(func(w http.ResponseWriter, r *http.Request, storage bool) bool {
		if storage && served.Add(1) > 6 {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	only := download.SnapshotOptions{Filter: download.Filter{Include: []string{"sub/"}}}
	if _, err := b.snapshot(only); err == nil {
		t.Fatal("no error")
	}
	b.hub.Break(nil)
	b.hub.Requests()
	b.placed(only)
	again := 0
	for _, request := range b.hub.Requests() {
		if strings.HasPrefix(request, "GET storage") {
			again++
		}
	}
	if again != 4 { // of 10 ranges, 6 were here
		t.Errorf("%d ranges were fetched the second time, want 4", again)
	}
}

func TestStalledConnectionIsCut(t *testing.T) {
	b := newBench(t, model(), func(o *download.Options) { o.Stall = 500 * time.Millisecond })
	var stalled atomic.Bool
	b.hub.Break(func(w http.ResponseWriter, r *http.Request, storage bool) bool {
		if !storage || r.Header.Get("Range") != "bytes=0-32767" || stalled.Swap(true) {
			return false
		}
		w.Header().Set("Content-Range", "bytes 0-32767/"+strconv.Itoa(sizeOf(r.URL.Path)))
		w.WriteHeader(http.StatusPartialContent)
		w.Write([]byte(model()[strings.TrimPrefix(r.URL.Path, "/org/model/"+b.commit+"/")][:100]))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	})
	same(t, b.placed(download.SnapshotOptions{}), model())
}

func TestCancelledMeansNothingMore(t *testing.T) {
	b := newBench(t, model(), nil)
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("interrupted")
	b.hub.Break(func(w http.ResponseWriter, r *http.Request, storage bool) bool {
		if storage {
			cancel(why)
		}
		return false
	})
	if _, err := b.client.Snapshot(ctx, b.repo, b.commit, download.SnapshotOptions{}); !errors.Is(err, why) && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestOffline(t *testing.T) {
	b := newBench(t, model(), nil)
	b.placed(download.SnapshotOptions{})
	o := b.client.Options
	o.Offline, o.Endpoint = true, "http://127.0.0.1:1"
	b.client = download.New(o)
	same(t, b.placed(download.SnapshotOptions{Unlisted: true}), model())
	for name, call := range map[string]func() error{
		"resolve":  func() error { _, err := b.client.Resolve(context.Background(), b.repo, "main"); return err },
		"unlisted": func() error { _, err := b.snapshot(download.SnapshotOptions{}); return err },
		"unknown": func() error {
			_, err := b.client.Snapshot(context.Background(), b.repo, strings.Repeat("0", 40), download.SnapshotOptions{Unlisted: true})
			return err
		},
	} {
		var failure *download.Error
		if err := call(); !errors.As(err, &failure) || failure.Kind != download.Offline {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestURL(t *testing.T) {
	content := random(9, 200_000)
	var gone atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/file.csv", http.StatusFound)
		case "/file.csv":
			w.Header().Set("ETag", `"v1"`)
			if r.Method == http.MethodGet && strings.HasPrefix(r.Header.Get("Range"), "bytes=65536-") && !gone.Swap(true) {
				panic(http.ErrAbortHandler)
			}
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
		case "/nohead":
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
			io.Copy(w, bytes.NewReader([]byte(content)))
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	client := download.New(download.Options{Chunk: 32 << 10, Token: "secret", Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }})
	const sha256 = "sha256:"
	to := filepath.Join(t.TempDir(), "file")
	sum, n, err := client.URL(context.Background(), server.URL+"/moved", to, download.URLOptions{})
	if got, _ := os.ReadFile(to); err != nil || string(got) != content || n != int64(len(content)) || !strings.HasPrefix(sum, sha256) {
		t.Fatalf("%d bytes, %s, %v", n, sum, err)
	}
	for _, path := range []string{"/file.csv", "/nohead"} {
		os.Remove(to)
		again, _, err := client.URL(context.Background(), server.URL+path, to, download.URLOptions{Checksum: sum})
		if err != nil || again != sum {
			t.Errorf("%s: %s, %v", path, again, err)
		}
	}
	os.Remove(to)
	b3, _, err := client.URL(context.Background(), server.URL+"/file.csv", to, download.URLOptions{Checksum: "blake3:" + strings.Repeat("0", 64)})
	var failure *download.Error
	if !errors.As(err, &failure) || failure.Kind != download.Damaged || b3 != "" {
		t.Errorf("a wrong checksum gives %v", err)
	}
	if left, _ := filepath.Glob(to + "*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, _, err := client.URL(context.Background(), server.URL+"/none?key=secret", to, download.URLOptions{}); err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "404") {
		t.Error(err)
	}
}
