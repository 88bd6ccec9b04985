//go:build ignore

// Command s3_faulty_proxy stands in front of an S3 server and harms some of the traffic, so that tests can
// show what a client does about it. SigV4 signatures stay valid: path, query and Host pass unchanged.
//
// -faults is a list of fault[=value][@probability] (1 when left out):
//
//	slowdown        answer 503 SlowDown; nothing reaches the server
//	delay=50        wait 50 ms, then forward (another fault may strike too)
//	drop-request=N  read N bytes of the request's body, then cut the connection; nothing reaches the server
//	lose            forward, let the server finish, then cut before the first byte of the answer
//	drop-get=N      cut after N bytes of a GET's body
//	truncate=N      leave the last N bytes off a GET's body and call it complete (Content-Length agrees)
//	corrupt         flip one bit of a GET's body
//
// and of settings: match=REGEXP on "METHOD /path?query" (no comma in it), seed=N, limit=N (faults in all).
// GET /-/faults gives the counts as JSON; PUT /-/faults with a list as its body starts over with that list.
package main

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type faults struct {
	mu     sync.Mutex // guards rand, limit, count
	rand   *rand.Rand
	limit  int64
	count  map[string]int64
	match  *regexp.Regexp
	value  map[string]int64   // bytes, or milliseconds
	chance map[string]float64 // of each fault asked for
}

func parse(list string) (*faults, error) {
	f := &faults{limit: -1, count: map[string]int64{}, value: map[string]int64{}, chance: map[string]float64{}}
	f.rand = rand.New(rand.NewPCG(1, 0))
	for item := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' || r == '\n' }) {
		head, prob, _ := strings.Cut(item, "@")
		name, value, _ := strings.Cut(head, "=")
		n, err := strconv.ParseUint(cmp.Or(value, "0"), 10, 63)
		p, perr := strconv.ParseFloat(cmp.Or(prob, "1"), 64)
		switch name {
		case "match":
			f.match, err = regexp.Compile(strings.TrimPrefix(item, "match="))
			p, perr = 1, nil
		case "seed":
			f.rand = rand.New(rand.NewPCG(n, 0))
		case "limit":
			f.limit = int64(n)
		case "slowdown", "delay", "drop-request", "lose", "drop-get", "truncate", "corrupt":
			f.value[name], f.chance[name] = int64(n), p
		default:
			p = -1
		}
		if err != nil || perr != nil || !(p >= 0 && p <= 1) {
			return nil, fmt.Errorf("%q is not a known fault[=whole number][@probability from 0 to 1]", item)
		}
	}
	return f, nil
}

// choose draws for one fault after the other and returns the first that strikes this request.
func (f *faults) choose(r *http.Request, among ...string) (string, int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range among {
		p, ok := f.chance[name]
		if !ok || f.limit == 0 || f.match != nil && !f.match.MatchString(r.Method+" "+r.URL.RequestURI()) || f.rand.Float64() >= p {
			continue
		}
		f.limit--
		f.count[name]++
		return name, f.value[name]
	}
	return "", 0
}

// harm sees the server's answer before anything of it goes to the client.
func (f *faults) harm(resp *http.Response) error {
	size := resp.ContentLength // -1 when the server does not say
	among := []string{"lose"}
	if resp.Request.Method == http.MethodGet && resp.StatusCode < 300 && size != 0 {
		among = append(among, "drop-get", "truncate", "corrupt")
	}
	name, n := f.choose(resp.Request, among...)
	body := &harmed{ReadCloser: resp.Body, left: math.MaxInt64, flip: -1}
	switch {
	case name == "lose":
		return io.ErrUnexpectedEOF
	case name == "drop-get":
		body.left, body.end = n, io.ErrUnexpectedEOF
	case name == "truncate" && size > 0:
		resp.ContentLength = max(0, size-n)
		resp.Header.Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
		body.left, body.end = resp.ContentLength, io.EOF
	case name == "corrupt":
		f.mu.Lock()
		body.flip = f.rand.Int64N(max(1, size))
		f.mu.Unlock()
	}
	resp.Body = body
	return nil
}

// harmed is a body that ends with end after left bytes; a bit of byte flip is turned.
type harmed struct {
	io.ReadCloser
	at, left, flip int64
	end            error
}

func (h *harmed) Read(b []byte) (int, error) {
	if h.at == h.left {
		return 0, h.end
	}
	n, err := h.ReadCloser.Read(b[:min(int64(len(b)), h.left-h.at)])
	if i := h.flip - h.at; i >= 0 && i < int64(n) {
		b[i] ^= 1
	}
	h.at += int64(n)
	return n, err
}

type proxy struct {
	now     atomic.Pointer[faults]
	forward httputil.ReverseProxy
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := p.now.Load()
	if r.URL.Path == "/-/faults" {
		if r.Method == http.MethodPut {
			list, _ := io.ReadAll(r.Body)
			var err error
			if f, err = parse(string(list)); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			p.now.Store(f)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		json.NewEncoder(w).Encode(f.count)
		return
	}
	_, d := f.choose(r, "delay")
	time.Sleep(time.Duration(d) * time.Millisecond)
	switch name, n := f.choose(r, "slowdown", "drop-request"); name {
	case "slowdown":
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>")
	case "drop-request":
		io.CopyN(io.Discard, r.Body, n)
		panic(http.ErrAbortHandler)
	default:
		p.forward.ServeHTTP(w, r)
	}
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "`address` to serve on")
	target := flag.String("target", os.Getenv("S3_PROXY_TARGET"), "`URL` of the server behind")
	list := flag.String("faults", os.Getenv("S3_PROXY_FAULTS"), "`list` of faults, see the package comment")
	flag.Parse()
	u, err := url.Parse(*target)
	f, listErr := parse(*list)
	if err != nil || listErr != nil {
		log.Fatalln(err, listErr)
	}
	p := &proxy{forward: httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.URL.RawQuery = u.Scheme, u.Host, r.In.URL.RawQuery
			r.Out.Host = r.In.Host
		},
		Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64, ExpectContinueTimeout: time.Second},
		FlushInterval: -1, // every byte before a cut is delivered
		ErrorHandler:  func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}}
	p.forward.ModifyResponse = func(resp *http.Response) error { return p.now.Load().harm(resp) }
	p.now.Store(f)
	log.Fatal(http.ListenAndServe(*listen, p))
}
