package download_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lpipe/download"
)

// answers is a hub that says the same to everything.
type answers struct {
	status       int
	header, body string
}

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	header := http.Header{}
	for line := range strings.Lines(a.header) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		header.Add(name, strings.TrimSpace(value))
	}
	return &http.Response{
		StatusCode: a.status, Status: http.StatusText(a.status), Header: header, Request: r, ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(strings.NewReader(a.body)), ContentLength: int64(len(a.body)),
	}, nil
}

// FuzzHub: whatever a hub answers, nothing is written outside of the folders that are meant for it, and nothing hangs.
func FuzzHub(f *testing.F) {
	f.Add(200, "Link: <https://hub.test/next>; rel=\"next\"\nETag: \"x\"", `[{"type":"file","path":"a","size":1,"oid":"86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"},{"type":"directory","path":"d"}]`)
	f.Add(200, "", `{"sha":"0123456789012345678901234567890123456789"}`)
	f.Add(302, "Location: /other", "")
	f.Add(206, "Content-Range: bytes 0-1/2\nX-Linked-Size: 2\nX-Linked-Etag: \"y\"", "ab")
	f.Add(401, "X-Error-Code: GatedRepo", "no")
	f.Add(429, "Retry-After: 1", "")
	f.Fuzz(func(t *testing.T, status int, header, body string) {
		if status < 200 || status > 599 {
			return
		}
		root := t.TempDir()
		sleeps := 0
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		c := download.New(download.Options{
			Endpoint: "https://hub.test", Cache: filepath.Join(root, "hub"), Transport: answers{status, header, body}, Chunk: 1 << 10,
			Sleep: func(ctx context.Context, _ time.Duration) error {
				if sleeps++; sleeps > 1000 {
					t.Fatal("it asks for ever")
				}
				return ctx.Err()
			},
		})
		repo, err := download.ParseRepo("org/model")
		if err != nil {
			t.Fatal(err)
		}
		c.Resolve(ctx, repo, "main")
		if s, err := c.Snapshot(ctx, repo, strings.Repeat("a", 40), download.SnapshotOptions{}); err == nil {
			s.Place(filepath.Join(root, "model"))
		}
		if ctx.Err() != nil {
			t.Error("it hangs")
		}
		entries, err := os.ReadDir(root)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() != "hub" && e.Name() != "model" && !strings.HasPrefix(e.Name(), ".") && !strings.HasPrefix(e.Name(), "model") {
				t.Errorf("it wrote %s", e.Name())
			}
		}
	})
}
