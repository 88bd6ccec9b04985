package crash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// s3Block is the remote of the scenarios in place of the folder.
const s3Block = `
remote "s3" "nas" {
  bucket   = env("S3_BUCKET", "")
  prefix   = env("S3_PREFIX", "")
  region   = env("AWS_REGION", "")
  endpoint = env("S3_ENDPOINT", "")
}
`

// killer is a proxy before an S3 server that kills a program at its n-th request: before the server hears of it, or
// after the server has done it and before the program hears so.
type killer struct {
	target *url.URL

	mu       sync.Mutex
	requests int
	at       int    // 0: never
	after    bool   // the server does it first
	kill     func() // ends the program
	locks    []string
}

// arm counts from the beginning.
func (k *killer) arm(at int, after bool, kill func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.requests, k.at, k.after, k.kill = 0, at, after, kill
}

func (k *killer) reached() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.at > 0 && k.requests >= k.at
}

func (k *killer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	k.requests++
	strikes, after, kill := k.requests == k.at, k.after, k.kill
	if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/locks/") && !slices.Contains(k.locks, r.URL.Path) {
		k.locks = append(k.locks, r.URL.Path)
	}
	k.mu.Unlock()
	if strikes && !after {
		kill()
		panic(http.ErrAbortHandler)
	}
	out := r.Clone(context.WithoutCancel(r.Context())) // it goes on when the program is killed
	out.URL.Scheme, out.URL.Host, out.RequestURI = k.target.Scheme, k.target.Host, ""
	answer, err := http.DefaultTransport.RoundTrip(out)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer answer.Body.Close()
	if strikes {
		kill()
		panic(http.ErrAbortHandler)
	}
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.StatusCode)
	io.Copy(w, answer.Body)
}

// unlock deletes the locks that killed programs left in the bucket: nobody else may, for twenty minutes.
func (k *killer) unlock(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, path := range k.locks {
		request, err := http.NewRequestWithContext(ctx, http.MethodDelete, k.target.String()+path, nil)
		if err != nil {
			return err
		}
		const nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // SHA-256 of no bytes
		request.Header.Set("X-Amz-Content-Sha256", nothing)
		key := aws.Credentials{AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY")}
		if err := v4.NewSigner().SignHTTP(ctx, key, request, nothing, "s3", os.Getenv("AWS_REGION"), time.Now()); err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		answer.Body.Close()
		if answer.StatusCode >= 300 {
			return fmt.Errorf("delete %s: %s", path, answer.Status)
		}
	}
	k.locks = nil
	return nil
}

// requestRow is a command whose requests are counted.
type requestRow struct {
	name   string
	folder string
	args   []string
	before func(p *place) error // the bucket is empty, the project's outputs stand
}

func requestRows() []requestRow {
	cloned := func(p *place) error {
		return p.all(p.does("project", "push"), p.clone)
	}
	return []requestRow{
		{"push", "project", []string{"push"}, nil},
		{"pull", "clone", []string{"pull"}, cloned},
		{"repro", "clone", []string{"repro"}, func(p *place) error {
			if err := cloned(p); err != nil {
				return err
			}
			for _, path := range []string{"rows.jsonl", "data/one", "data/sub/two"} {
				text, err := os.ReadFile(filepath.Join(p.root, "project", path))
				if err == nil {
					err = p.write("clone/"+path, string(text))
				}
				if err != nil {
					return err
				}
			}
			return nil
		}},
		{"gc --remote", "project", []string{"gc", "--remote", "nas", "--delete", "--older-than", "1ns"}, func(p *place) error {
			return p.all(p.does("project", "push"), func() error { return p.write("project/data/one", "another\n") },
				p.does("project", "add"), p.does("project", "repro"), p.does("project", "push"))
		}},
	}
}

// TestRequests kills the commands that talk to S3 at their n-th request, before and after the server has done it.
func TestRequests(t *testing.T) {
	direct := os.Getenv("LPIPE_TEST_S3_DIRECT")
	if direct == "" {
		if os.Getenv("LPIPE_TEST_REQUIRE") != "" || os.Getenv("LPIPE_CRASH") != "" {
			t.Fatal("LPIPE_TEST_S3_DIRECT is not set: tools/services/s3.sh up --faults limit=0 DIR prints it, make crash starts it")
		}
		t.Skip("no S3 server: make test starts one")
	}
	target, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	stride := 7
	if os.Getenv("LPIPE_CRASH") == "full" {
		stride = 1
	}
	p, k := newPlace(t, buildProgram(t)), &killer{target: target}
	server := httptest.NewServer(k)
	defer server.Close()
	p.env = []string{"S3_ENDPOINT=" + server.URL, "S3_BUCKET=" + os.Getenv("LPIPE_TEST_S3_BUCKET")}
	made, err := p.made()
	if err != nil {
		t.Fatal(err)
	}
	tried, failures := 0, 0
	for _, row := range requestRows() {
		for _, after := range []bool{false, true} {
			for n := 1; ; n += stride {
				reached, err := p.killAtRequest(t.Context(), k, row, made, n, after)
				if err != nil {
					failures++
					t.Errorf("%s, killed at request %d (done by the server: %v): %v", row.name, n, after, err)
				}
				if !reached {
					break
				}
				tried++
			}
		}
	}
	t.Logf("every %d. request. operations tried: %d, failures: %d", stride, tried, failures)
}

// made is a project whose outputs stand and are nowhere else.
func (p *place) made() (*Node, error) {
	if err := p.clear(); err != nil {
		return nil, err
	}
	p.prefix("made")
	s := scenario{before: func(p *place) error {
		stages, _, _ := strings.Cut(pipeline, `remote "dir"`)
		return p.all(func() error { return p.write("project/pipeline.hcl", stages+s3Block) }, p.does("project", "add"), p.does("project", "repro", "--no-remote"))
	}}
	if err := s.files(p); err != nil {
		return nil, err
	}
	if err := s.before(p); err != nil {
		return nil, err
	}
	return ReadTree(p.root)
}

// prefix makes the bucket an empty one, under another prefix.
func (p *place) prefix(name string) {
	p.env = slices.DeleteFunc(p.env, func(e string) bool { return strings.HasPrefix(e, "S3_PREFIX=") })
	p.env = append(p.env, fmt.Sprintf("S3_PREFIX=crash-%s-%d", name, time.Now().UnixNano()))
}

func (p *place) killAtRequest(ctx context.Context, k *killer, row requestRow, made *Node, n int, after bool) (reached bool, err error) {
	if err := p.reset(made); err != nil {
		return true, err
	}
	p.prefix(strings.Fields(row.name)[0])
	k.arm(0, false, nil)
	if row.before != nil {
		if err := row.before(p); err != nil {
			return true, err
		}
	}
	cmd := p.command(row.folder, row.args...)
	var once sync.Once
	k.arm(n, after, func() { once.Do(func() { cmd.Process.Kill() }) })
	out, err := cmd.CombinedOutput()
	reached = k.reached()
	k.arm(0, false, nil)
	if !reached && err != nil {
		return reached, fmt.Errorf("undisturbed: %w\n%s", err, out)
	}
	return reached, p.afterRequest(ctx, k, row)
}

// afterRequest goes on as people would: here, and in a clone.
func (p *place) afterRequest(ctx context.Context, k *killer, row requestRow) error {
	if err := p.inputs("project", nil); err != nil {
		return err
	}
	if err := p.all(p.does(row.folder, "fsck", "--full"), p.does("project", "fsck", "--remote", "nas", "--full"),
		func() error { return k.unlock(ctx) }, p.does(row.folder, row.args...)); err != nil {
		return err
	}
	if row.folder == "clone" {
		if err := p.outputsAlike(); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(filepath.Join(p.root, "clone")); err != nil {
		return err
	}
	if err := p.all(p.does("project", "push"), p.does("project", "fsck", "--remote", "nas", "--full"), p.clone, p.does("clone", "pull")); err != nil {
		return err
	}
	return errors.Join(p.outputsAlike(), p.all(p.does("project", "fsck", "--full"), p.does("clone", "fsck", "--full")))
}
