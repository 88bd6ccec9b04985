package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options say whom a Client asks, as whom, and where it keeps what it got. All but Cache may be left out; Cache is needed
// for snapshots only.
type Options struct {
	Endpoint string // "": https://huggingface.co
	Token    string // sent to Endpoint's host, never elsewhere
	Cache    string // the hub cache: the folder that holds models--ORG--NAME
	Offline  bool   // ask nobody

	// Sign adds to a request what proves who asks, last of all headers; nil: nothing. It sees requests to other hosts too,
	// that redirects lead to, and must leave those alone.
	Sign func(*http.Request) error

	Agent       string            // the User-Agent header
	Connections int               // at once; 0: 8
	Chunk       int64             // bytes of one range; 0: 16 MiB
	Stall       time.Duration     // how long a connection may bring nothing; 0: 30 s
	Transport   http.RoundTripper // nil: one that honours Proxy

	Proxy func(*http.Request) (*url.URL, error) // nil: none
	Note  func(message string)                  // told of waits that a person would wonder about; nil: nobody
	Sleep func(ctx context.Context, d time.Duration) error
}

// Client downloads. It may be used by several goroutines.
type Client struct {
	Options
	http *http.Client
	busy chan struct{} // one for each connection
}

const (
	defaultEndpoint = "https://huggingface.co"
	defaultChunk    = 16 << 20
	defaultStall    = 30 * time.Second

	attempts    = 5                // of one thing without any progress
	maxWaits    = 12               // for a rate limit to end: windows are 5 minutes long
	maxWait     = 10 * time.Minute // longer ones are told as an error
	firstPause  = time.Second
	maxRedirect = 10
)

// New returns a client. It opens nothing yet.
func New(o Options) *Client {
	if o.Connections <= 0 {
		o.Connections = 8
	}
	if o.Chunk <= 0 {
		o.Chunk = defaultChunk
	}
	if o.Stall <= 0 {
		o.Stall = defaultStall
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	if o.Transport == nil {
		o.Transport = &http.Transport{
			Proxy:                 o.Proxy,
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: o.Stall,
			MaxIdleConnsPerHost:   o.Connections,
			ForceAttemptHTTP2:     true,
			DisableCompression:    true, // sizes and ranges are those of the file
		}
	}
	return &Client{
		Options: o,
		http:    &http.Client{Transport: o.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		busy:    make(chan struct{}, o.Connections),
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (c *Client) endpoint() string {
	if c.Endpoint == "" {
		return defaultEndpoint
	}
	return strings.TrimRight(c.Endpoint, "/")
}

// send makes one request, without following redirects, and returns any answer. An answer's body is the caller's to close.
func (c *Client) send(ctx context.Context, method, address string, header http.Header) (*http.Response, error) {
	if c.Offline {
		return nil, &Error{Kind: Offline, URL: shown(address), Message: "the network must not be used (--offline or HF_HUB_OFFLINE)"}
	}
	request, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return nil, &Error{Kind: Server, Status: http.StatusBadRequest, Message: "an address that cannot be asked", URL: shown(address)}
	}
	for name, values := range header {
		request.Header[name] = values
	}
	request.Header.Set("Accept-Encoding", "identity")
	if c.Agent != "" {
		request.Header.Set("User-Agent", c.Agent)
	}
	if c.Token != "" && c.atEndpoint(request.URL) {
		request.Header.Set("Authorization", "Bearer "+c.Token)
	}
	if c.Sign != nil {
		if err := c.Sign(request); err != nil {
			return nil, &Error{Kind: Denied, URL: shown(address), Message: "the request cannot be signed", Err: err}
		}
	}
	answer, err := c.http.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // its text holds the whole address, signature included
		}
		return nil, &Error{Kind: Network, URL: shown(address), Message: "no answer", Err: err}
	}
	return answer, nil
}

// atEndpoint tells whether an address is the hub's own, to which the token may go.
func (c *Client) atEndpoint(u *url.URL) bool {
	hub, err := url.Parse(c.endpoint())
	return err == nil && hub.Scheme == u.Scheme && strings.EqualFold(hub.Host, u.Host)
}

// retry calls f until it succeeds or fails for good: a pause that doubles after what may pass, the server's own time
// after a rate limit. f says whether it got any further, which makes the count begin anew.
func (c *Client) retry(ctx context.Context, f func() (progress bool, err error)) error {
	pause, failures, waits := firstPause, 0, 0
	for {
		progress, err := f()
		if err == nil {
			return nil
		}
		var failure *Error
		if !errors.As(err, &failure) || !failure.passes() || ctx.Err() != nil {
			return err
		}
		if progress {
			pause, failures = firstPause, 0
		}
		wait := pause + rand.N(pause/2)
		if failure.after > 0 {
			wait = failure.after
		}
		if failure.Kind == Limited {
			waits++
		} else {
			failures++
		}
		if failures >= attempts || waits >= maxWaits || wait > maxWait {
			return c.givenUp(err, failure, waits, wait)
		}
		if c.Note != nil && wait >= 5*time.Second {
			c.Note(failure.Error() + "; going on in " + wait.Round(time.Second).String())
		}
		if err := c.Sleep(ctx, wait); err != nil {
			return err
		}
		pause = min(2*pause, 30*time.Second)
	}
}

// givenUp is the error of retry, with what to do where the server wants to be left alone.
func (c *Client) givenUp(err error, failure *Error, waits int, wait time.Duration) error {
	if failure.Kind != Limited {
		return err
	}
	told := *failure
	told.Message += fmt.Sprintf(", still after %d waits of %s or so", waits, wait.Round(time.Second))
	if wait > maxWait {
		told.Message = failure.Message + ", and the server asks to wait " + wait.Round(time.Second).String()
	}
	told.Message += ": try again later"
	if c.Token == "" && strings.HasPrefix(failure.URL, c.endpoint()) {
		told.Message += ", or set HF_TOKEN, since hubs allow more to whom they know"
	}
	return &told
}

var rateReset = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?:^|;)\s*t=(\d+)`) })

// waitTime reads how long a server wants to be left alone: `RateLimit: "resolvers";r=0;t=55`, else Retry-After.
func waitTime(h http.Header) time.Duration {
	if match := rateReset().FindStringSubmatch(h.Get("RateLimit")); match != nil {
		if seconds, err := strconv.Atoi(match[1]); err == nil {
			return time.Duration(max(seconds, 1)) * time.Second
		}
	}
	after := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(after); err == nil && seconds > 0 {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(after); err == nil {
		return max(time.Until(at), time.Second)
	}
	return 0
}

// read reads a small answer whole.
func read(answer *http.Response, limit int64) ([]byte, error) {
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, limit+1))
	switch {
	case err != nil:
		return nil, &Error{Kind: Network, URL: shown(answer.Request.URL.String()), Message: "the answer breaks off", Err: err}
	case int64(len(data)) > limit:
		return nil, &Error{Kind: Server, Status: answer.StatusCode, URL: shown(answer.Request.URL.String()), Message: "the answer is larger than any hub's"}
	}
	return data, nil
}

// discard ends an answer so that its connection can be used again.
func discard(answer *http.Response) {
	io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10))
	answer.Body.Close()
}
