package tracking

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// Options say where a server is, and who asks.
type Options struct {
	URI                string // http:// or https://, with a path before /api where the server has one
	Username, Password string // Basic authentication, which wins over Token
	Token              string // Bearer
	Workspace          string // of servers that have several; "": the default

	Insecure   bool   // any certificate will do
	ServerCert string // PEM file: the only authority that counts
	ClientCert string // PEM file with certificate and key

	Agent string
	Proxy func(*http.Request) (*url.URL, error) // nil: none
	Store Store                                 // of artifacts that the server does not pass on; nil: none
	// Tries is how often a request is tried that may succeed later; 0: 7. The first pause is Pause (0: half a second), and
	// doubles up to MaxPause.
	Tries   int
	Pause   time.Duration
	Timeout time.Duration // until an answer begins; 0: two minutes, as SQLite with several writers takes many seconds
}

// MaxPause bounds the time between two tries, unless the server asks for more.
const MaxPause = 30 * time.Second

// Client talks to one server.
type Client struct {
	o    Options
	base *url.URL
	http *http.Client
}

// New makes no request. Its errors are about the options.
func New(o Options) (*Client, error) {
	base, err := url.Parse(o.URI)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, &Error{Kind: Unusable, Op: "use " + shown(o.URI), Message: "that is no address of a server",
			Remedy: "start one (mlflow server --backend-store-uri sqlite:///mlflow.db) and name it as http://HOST:PORT in MLFLOW_TRACKING_URI"}
	}
	if user := base.User; user != nil {
		password, _ := user.Password()
		if o.Username == "" {
			o.Username, o.Password = user.Username(), password
		}
		base.User = nil
	}
	base.Path = strings.TrimRight(base.Path, "/")
	if o.Tries == 0 {
		o.Tries = 7
	}
	if o.Pause == 0 {
		o.Pause = time.Second / 2
	}
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Minute
	}
	transport := &http.Transport{
		Proxy:                 o.Proxy,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: o.Timeout,
		IdleConnTimeout:       30 * time.Second, // uvicorn ends idle ones after some seconds; a lost race is tried again
		MaxIdleConnsPerHost:   8,
		ForceAttemptHTTP2:     true,
		WriteBufferSize:       128 << 10, // a batch in one piece, instead of some thirty, for each of which both sides would wake
	}
	if transport.TLSClientConfig, err = o.tls(); err != nil {
		return nil, err
	}
	return &Client{o: o, base: base, http: &http.Client{Transport: transport, CheckRedirect: stayHere}}, nil
}

// stayHere follows no redirect to another host: it would be handed our credentials, or a login page's HTML would pass for
// an answer.
func stayHere(to *http.Request, via []*http.Request) error {
	if len(via) > 3 || to.URL.Host != via[0].URL.Host || to.Method != via[0].Method {
		return http.ErrUseLastResponse
	}
	return nil
}

func (o Options) tls() (*tls.Config, error) {
	config := &tls.Config{InsecureSkipVerify: o.Insecure}
	if o.ServerCert != "" {
		pem, err := os.ReadFile(o.ServerCert)
		if err != nil {
			return nil, fmt.Errorf("MLFLOW_TRACKING_SERVER_CERT_PATH: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("MLFLOW_TRACKING_SERVER_CERT_PATH: %s holds no certificate in PEM form", o.ServerCert)
		}
	}
	if o.ClientCert != "" {
		pair, err := tls.LoadX509KeyPair(o.ClientCert, o.ClientCert)
		if err != nil {
			return nil, fmt.Errorf("MLFLOW_TRACKING_CLIENT_CERT_PATH: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// String is the server's address, without credentials.
func (c *Client) String() string { return c.base.String() }

// RunPage is where a person looks at a run.
func (c *Client) RunPage(experiment, run string) string {
	return c.base.String() + "/#/experiments/" + experiment + "/runs/" + run
}

const api = "/api/2.0/mlflow/"

// get asks; query is name, value, name, value.
func (c *Client) get(ctx context.Context, path string, out any, query ...string) error {
	values := url.Values{}
	for i := 0; i+1 < len(query); i += 2 {
		values.Add(query[i], query[i+1])
	}
	return c.call(ctx, http.MethodGet, api+path+"?"+values.Encode(), nil, out)
}

func (c *Client) post(ctx context.Context, path string, in, out any) error {
	return c.send(ctx, http.MethodPost, path, in, out)
}

func (c *Client) send(ctx context.Context, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode the request %s: %w", path, err)
	}
	return c.call(ctx, method, api+path, body, out)
}

// call makes a request of JSON, again as long as that may help, and decodes the answer into out, if not nil. Every request
// made by it may arrive twice without harm, but for creations: those look first whether an earlier try came through.
func (c *Client) call(ctx context.Context, method, path string, body []byte, out any) error {
	return c.retry(ctx, func() error {
		var reader io.Reader
		if body != nil {
			reader = bytes.NewReader(body)
		}
		answer, err := c.do(ctx, method, path, reader, "application/json", int64(len(body)))
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		data, err := io.ReadAll(io.LimitReader(answer.Body, 1<<28))
		if err != nil {
			return c.broken(ctx, method, path, err)
		}
		if out == nil || len(data) == 0 {
			return nil
		}
		if err := json.Unmarshal(data, out); err != nil {
			return &Error{Kind: Unusable, Op: opName(method, path), Where: c.String(), Status: answer.StatusCode,
				Message: "the answer is not MLflow's: " + firstLine(data), Remedy: "look whether the address is that of an MLflow server"}
		}
		return nil
	})
}

// once marks the context of a request that must not be sent again blindly.
type once struct{}

// retry tries until it works, cannot work, or has been tried often enough.
func (c *Client) retry(ctx context.Context, try func() error) error {
	pause := c.o.Pause
	if _, once := ctx.Value(once{}).(bool); once {
		return try()
	}
	for n := 1; ; n++ {
		err := try()
		var e *Error
		if err == nil || ctx.Err() != nil || !errors.As(err, &e) || !e.Passing() || n >= c.o.Tries {
			return err
		}
		wait := max(pause/2+rand.N(pause), e.after)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
		pause = min(2*pause, MaxPause)
	}
}

// do makes one request. An answer that is not 2xx is an *Error, and its body is read.
func (c *Client) do(ctx context.Context, method, path string, body io.Reader, kind string, size int64) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base.String()+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if body != nil {
		request.Header.Set("Content-Type", kind)
		request.ContentLength = size
		if size == 0 {
			request.Body = http.NoBody
		}
	}
	c.identify(request)
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, c.broken(ctx, method, path, err)
	}
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		defer answer.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
		return nil, c.refused(method, path, answer, text)
	}
	return answer, nil
}

func (c *Client) identify(request *http.Request) {
	switch {
	case c.o.Username != "" && c.o.Password != "":
		request.SetBasicAuth(c.o.Username, c.o.Password)
	case c.o.Token != "":
		request.Header.Set("Authorization", "Bearer "+c.o.Token)
	}
	if c.o.Workspace != "" {
		request.Header.Set("X-MLFLOW-WORKSPACE", c.o.Workspace)
	}
	if c.o.Agent != "" {
		request.Header.Set("User-Agent", c.o.Agent)
	}
}

// retryAfter is the wait that a server asks for, in seconds; other forms are ignored.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, 5*time.Minute)
}
