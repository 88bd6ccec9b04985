// Package trackingtest is what tests of tracking share: a real MLflow server, and a proxy before it that harms the traffic.
package trackingtest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// Server is the address of a real MLflow server, which tools/services/mlflow.sh starts and `make test` with it; getenv is
// os.Getenv. Without one the test is skipped, or fails where nothing may be skipped.
func Server(t testing.TB, getenv func(string) string) string {
	t.Helper()
	return server(t, getenv, "LPIPE_TEST_MLFLOW", "tools/services/mlflow.sh up DIR")
}

// ServerWithS3 is Server for one that keeps artifacts in a real S3 server.
func ServerWithS3(t testing.TB, getenv func(string) string) string {
	t.Helper()
	return server(t, getenv, "LPIPE_TEST_MLFLOW_S3", "ARTIFACTS=s3://… tools/services/mlflow.sh up DIR")
}

func server(t testing.TB, getenv func(string) string, name, how string) string {
	t.Helper()
	uri := getenv(name)
	if uri == "" {
		text := name + " names no MLflow server: " + how + " starts one"
		if getenv("LPIPE_TEST_REQUIRE") != "" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	if uri == "off" {
		t.Skip(name + " is off: there is no Python here that MLflow could be installed for")
	}
	return uri
}

// Name is an experiment's or a model's that nobody else uses.
func Name(t testing.TB) string {
	return fmt.Sprintf("%s-%d", strings.NewReplacer("/", "-", "#", "-").Replace(t.Name()), time.Now().UnixNano())
}

// Proxy stands before a server. What Fault does not answer goes on to it.
type Proxy struct {
	URL   string
	Close func()

	mu       sync.Mutex // guards what follows
	fault    Fault
	requests []string // "POST /api/2.0/mlflow/runs/create"
}

// Fault sees a request, and the way on to the server; true says that it has dealt with it. n counts requests from 1,
// since the fault was set.
type Fault func(w http.ResponseWriter, r *http.Request, n int, on http.Handler) bool

// NewProxy starts a proxy before a server, for as long as the test runs.
func NewProxy(t testing.TB, server string) *Proxy {
	t.Helper()
	p, err := StartProxy(server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// StartProxy is NewProxy for callers who end it themselves.
func StartProxy(server string) (*Proxy, error) {
	to, err := url.Parse(server)
	if err != nil {
		return nil, err
	}
	on := httputil.NewSingleHostReverseProxy(to)
	on.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	p := &Proxy{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.requests = append(p.requests, r.Method+" "+r.URL.Path)
		n, fault := len(p.requests), p.fault
		p.mu.Unlock()
		if fault == nil || !fault(w, r, n, on) {
			on.ServeHTTP(w, r)
		}
	}))
	p.URL, p.Close = s.URL, s.Close
	return p, nil
}

// Set makes a fault the one that counts, nil none, and counts requests anew.
func (p *Proxy) Set(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault, p.requests = f, nil
}

// Requests are those since Set.
func (p *Proxy) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.requests...)
}

// Down ends every connection without an answer.
func Down(http.ResponseWriter, *http.Request, int, http.Handler) bool { panic(http.ErrAbortHandler) }

// Lose lets the server do what is asked in each k-th request, and loses its answer.
func Lose(k int) Fault {
	return func(w http.ResponseWriter, r *http.Request, n int, on http.Handler) bool {
		if n%k != 0 {
			return false
		}
		on.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
}

// Answer gives every request the same answer.
func Answer(status int, kind, body string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ int, _ http.Handler) bool {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		fmt.Fprint(w, body)
		return true
	}
}
