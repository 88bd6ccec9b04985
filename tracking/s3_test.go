package tracking_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lpipe/tracking"
	"lpipe/tracking/trackingtest"
)

// onTheWay is a proxy in the way of parts, as HTTP_PROXY names one: it cuts some in the middle, and loses the answers to others.
type onTheWay struct {
	*httptest.Server
	mu    sync.Mutex
	seen  int
	cut   func(n int) bool // the n-th request, from 1
	after func(n int) bool // the same, when the storage has it
}

func newOnTheWay(t *testing.T) *onTheWay {
	never := func(int) bool { return false }
	p := &onTheWay{cut: never, after: never}
	on := &httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.seen++
		cut, after := p.cut(p.seen), p.after(p.seen)
		p.mu.Unlock()
		switch {
		case cut:
			io.CopyN(io.Discard, r.Body, r.ContentLength/2)
			panic(http.ErrAbortHandler)
		case after:
			on.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		on.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

// proxy is what tracking.Options.Proxy takes: parts go through it, what is for the server does not.
func (p *onTheWay) proxy(r *http.Request) (*url.URL, error) {
	if strings.Contains(r.URL.Path, "/api/") {
		return nil, nil
	}
	return url.Parse(p.URL)
}

// A real server that keeps artifacts in S3 signs the addresses of parts; a real S3 server takes them. What is cut in the middle, or
// loses its answer, is sent again; an upload that cannot be finished is given up, and the next one arrives.
func TestPartsToARealServerAndS3(t *testing.T) {
	uri := trackingtest.ServerWithS3(t, os.Getenv)
	way := newOnTheWay(t)
	asked := trackingtest.NewProxy(t, uri)
	c, err := tracking.New(tracking.Options{URI: asked.URL, Proxy: way.proxy, Tries: 3, Pause: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	experiment, err := c.Experiment(t.Context(), trackingtest.Name(t))
	if err != nil {
		t.Fatal(err)
	}
	run, err := c.CreateRun(t.Context(), tracking.NewRun{Experiment: experiment.ID, Name: "r", Start: 1, Tags: []tracking.Tag{{Key: "a", Value: "b"}}}, false)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 101<<20) // seven parts, the last of 5 MiB
	rand.NewChaCha8([32]byte{1}).Read(data)
	send := func() error {
		return c.Upload(t.Context(), run.ArtifactURI, "sub/big file", bytes.NewReader(data), int64(len(data)))
	}

	way.cut = func(n int) bool { return n > 3 } // the fourth part never comes through
	if err := send(); !tracking.IsKind(err, tracking.Network) {
		t.Fatalf("sending ended with %v", err)
	}
	requests := strings.Join(asked.Requests(), "\n")
	if !strings.Contains(requests, "/mpu/abort/") || strings.Contains(requests, "/mpu/complete/") {
		t.Errorf("what could not be sent was not given up:\n%s", requests)
	}

	way.mu.Lock()
	way.seen = 0
	way.cut = func(n int) bool { return n == 2 || n == 6 }
	way.after = func(n int) bool { return n == 4 }
	way.mu.Unlock()
	if err := send(); err != nil {
		t.Fatal(err)
	}
	if way.seen != 10 {
		t.Errorf("%d requests for seven parts, of which three were harmed", way.seen)
	}
	body, err := c.Download(t.Context(), run.ArtifactURI, "sub/big file")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back, want %d: %v", len(got), len(data), err)
	}
	files, err := c.Artifacts(t.Context(), run.ArtifactURI)
	if err != nil || !slices.Equal(files, []tracking.Artifact{{Path: "sub/big file", Size: int64(len(data))}}) {
		t.Errorf("the server lists %v, %v", files, err)
	}
}
