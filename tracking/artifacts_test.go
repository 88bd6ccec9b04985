package tracking_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lpipe/tracking"
	"lpipe/tracking/trackingtest"
)

func connect(t *testing.T, o tracking.Options) *tracking.Client {
	t.Helper()
	o.Tries, o.Pause = 4, time.Millisecond
	c, err := tracking.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// storage takes parts as a cloud's storage does, and loses the answer to every third.
type storage struct {
	*httptest.Server
	mu    sync.Mutex
	count int
	parts map[string][]byte
}

func newStorage(t *testing.T) *storage {
	s := &storage{parts: map[string][]byte{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.count++
		if err != nil || r.Header.Get("X-Signed") != "yes" || r.Header.Get("Authorization") != "" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		s.parts[r.URL.Path] = data
		if s.count%3 == 0 {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("ETag", fmt.Sprintf(`"%s"`, r.URL.Path))
	}))
	t.Cleanup(s.Close)
	return s
}

// mpu answers a server's requests for uploads in parts, as one does that keeps artifacts in a cloud.
func (s *storage) mpu(t *testing.T, done *[]string) trackingtest.Fault {
	return func(w http.ResponseWriter, r *http.Request, _ int, _ http.Handler) bool {
		what, ok := strings.CutPrefix(r.URL.Path, "/api/2.0/mlflow-artifacts/mpu/")
		if !ok {
			return false
		}
		var body struct {
			Path   string `json:"path"`
			Parts  int    `json:"num_parts"`
			Upload string `json:"upload_id"`
		}
		text, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(text, &body) // of complete, parts is a list
		*done = append(*done, what+" "+body.Path)
		if strings.HasPrefix(what, "create/") {
			var parts []map[string]any
			for i := range body.Parts {
				parts = append(parts, map[string]any{"url": fmt.Sprintf("%s/%d", s.URL, i+1), "part_number": i + 1, "headers": map[string]string{"X-Signed": "yes"}})
			}
			json.NewEncoder(w).Encode(map[string]any{"upload_id": "u", "credentials": parts})
		} else {
			fmt.Fprint(w, "{}")
		}
		return true
	}
}

func TestLargeFilesGoInParts(t *testing.T) {
	proxy, store := trackingtest.NewProxy(t, "http://127.0.0.1:1"), newStorage(t)
	var done []string
	proxy.Set(store.mpu(t, &done))
	data := make([]byte, 70<<20)
	random := rand.NewChaCha8([32]byte{1})
	random.Read(data)
	c := connect(t, tracking.Options{URI: proxy.URL, Token: "secret"})
	if err := c.Upload(t.Context(), "mlflow-artifacts:/1/r/artifacts", "a b/model.safetensors", bytes.NewReader(data), int64(len(data))); err != nil {
		t.Fatal(err)
	}
	var whole []byte
	for i := range len(store.parts) {
		whole = append(whole, store.parts[fmt.Sprintf("/%d", i+1)]...)
	}
	if !bytes.Equal(whole, data) || len(store.parts) != 5 {
		t.Errorf("%d bytes arrived in %d parts", len(whole), len(store.parts))
	}
	if fmt.Sprint(done) != "[create/1/r/artifacts/a b model.safetensors complete/1/r/artifacts/a b model.safetensors]" {
		t.Errorf("requests %q", done)
	}
}

func TestPartsThatCannotBeSentAreGivenUp(t *testing.T) {
	proxy, store := trackingtest.NewProxy(t, "http://127.0.0.1:1"), newStorage(t)
	var done []string
	proxy.Set(store.mpu(t, &done))
	store.Close()
	data := bytes.NewReader(make([]byte, 65<<20))
	c := connect(t, tracking.Options{URI: proxy.URL})
	err := c.Upload(t.Context(), "mlflow-artifacts:/1/r/artifacts", "m", data, data.Size())
	if !tracking.IsKind(err, tracking.Network) || len(done) != 2 || !strings.HasPrefix(done[1], "abort/") {
		t.Errorf("%v after %q", err, done)
	}
}

// A server with a local store knows no parts: the file goes through it, as a stream.
func TestLargeFileThroughAServerWithoutParts(t *testing.T) {
	c := connect(t, tracking.Options{URI: trackingtest.Server(t, os.Getenv)})
	experiment, err := c.Experiment(t.Context(), trackingtest.Name(t))
	if err != nil {
		t.Fatal(err)
	}
	run, err := c.CreateRun(t.Context(), tracking.NewRun{Experiment: experiment.ID, Name: "r", Start: 1, Tags: []tracking.Tag{{Key: "a", Value: "b"}}}, false)
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 65<<16)
	if err := c.Upload(t.Context(), run.ArtifactURI, "big", bytes.NewReader(data), int64(len(data))); err != nil {
		t.Fatal(err)
	}
	body, err := c.Download(t.Context(), run.ArtifactURI, "big")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back: %v", len(got), err)
	}
}

// memory is a store as S3 is one.
type memory map[string][]byte

func (m memory) Put(_ context.Context, uri string, r io.ReadSeeker) error {
	data, err := io.ReadAll(r)
	m[uri] = data
	return err
}

func (m memory) Get(_ context.Context, uri string) (io.ReadCloser, error) {
	data, there := m[uri]
	if !there {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (m memory) List(_ context.Context, uri string) (all []tracking.Artifact, err error) {
	for name, data := range m {
		if rest, ok := strings.CutPrefix(name, strings.TrimSuffix(uri, "/")+"/"); ok {
			all = append(all, tracking.Artifact{Path: rest, Size: int64(len(data))})
		}
	}
	return all, nil
}

func TestArtifactsInS3GoThereDirectly(t *testing.T) {
	store := memory{}
	c := connect(t, tracking.Options{URI: "http://127.0.0.1:1", Store: store})
	dir := t.TempDir()
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "sub"), 0o777), os.WriteFile(filepath.Join(dir, "sub", "f"), []byte("x"), 0o666)); err != nil {
		t.Fatal(err)
	}
	const root = "s3://bucket/prefix/1/r/artifacts"
	if err := c.UploadTree(t.Context(), root, "adapter", dir); err != nil {
		t.Fatal(err)
	}
	files, err := c.Artifacts(t.Context(), root)
	if err != nil || len(files) != 1 || files[0].Path != "adapter/sub/f" || store[root+"/adapter/sub/f"] == nil {
		t.Errorf("%v %v %v", files, store, err)
	}
	if _, err := c.Download(t.Context(), root, "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
	err = c.Upload(t.Context(), "gs://bucket/r", "f", strings.NewReader("x"), 1)
	if !tracking.IsKind(err, tracking.Unsupported) || !strings.Contains(err.Error(), "--serve-artifacts") {
		t.Errorf("a store that nobody here knows: %v", err)
	}
}

// Which credentials are used, in MLflow's order; none of them stands in a message.
func TestCredentials(t *testing.T) {
	var seen string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		seen = strings.Trim(user+":"+password+" "+r.Header.Get("Authorization")[:6]+" "+r.Header.Get("X-MLFLOW-WORKSPACE"), " ")
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer s.Close()
	withUser := strings.Replace(s.URL, "http://", "http://ann:hush@", 1)
	for _, one := range []struct {
		o    tracking.Options
		want string
	}{
		{tracking.Options{URI: s.URL, Username: "u", Password: "hush", Token: "t"}, "u:hush Basic"},
		{tracking.Options{URI: s.URL, Token: "hush", Workspace: "w"}, ": Bearer w"},
		{tracking.Options{URI: withUser}, "ann:hush Basic"},
	} {
		_, err := connect(t, one.o).Experiment(t.Context(), "x")
		if seen != one.want || !tracking.IsKind(err, tracking.Denied) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q, want %q: %v", seen, one.want, err)
		}
	}
	for _, uri := range []string{"", "mlruns", "sqlite:///mlflow.db", "file:///tmp/x", "databricks", "http://"} {
		if _, err := tracking.New(tracking.Options{URI: uri}); !tracking.IsKind(err, tracking.Unusable) || !strings.Contains(err.Error(), "mlflow server") {
			t.Errorf("%q: %v", uri, err)
		}
	}
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	if _, err := connect(t, tracking.Options{URI: secure.URL}).Experiment(t.Context(), "x"); !tracking.IsKind(err, tracking.Unusable) || !strings.Contains(err.Error(), "MLFLOW_TRACKING_INSECURE_TLS") {
		t.Errorf("an unknown authority: %v", err)
	}
	if _, err := connect(t, tracking.Options{URI: secure.URL, Insecure: true}).Experiment(t.Context(), "x"); !tracking.IsKind(err, tracking.Unsupported) {
		t.Errorf("any authority will do: %v", err)
	}
}

func TestCleanName(t *testing.T) {
	for name, want := range map[string]string{
		"train/loss": "train/loss", "a b.c-d:e_f": "a b.c-d:e_f", "ü@=,": "____", "../../x": "x", "/a//b/": "a/b", "": "_", ".": "_", "..": "_", "a/..b": "a/..b",
		strings.Repeat("ä", 300): strings.Repeat("_", 250),
	} {
		if got := tracking.CleanName(name); got != want {
			t.Errorf("%q becomes %q, want %q", name, got, want)
		}
	}
}

func FuzzCleanName(f *testing.F) {
	f.Add("a/../b")
	f.Fuzz(func(t *testing.T, name string) {
		clean := tracking.CleanName(name)
		if again := tracking.CleanName(clean); again != clean || clean == "" || len(clean) > tracking.MaxName {
			t.Errorf("%q becomes %q, and that %q", name, clean, again)
		}
	})
}
