package tracking

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// Kind says what an error is about, and so what helps.
type Kind int

// The kinds of errors.
const (
	Network     Kind = iota // nobody answers, or the answer breaks off
	Busy                    // the server asks to come later, or fails
	Denied                  // no credentials, wrong ones, or no right to do this
	Refused                 // the server does not take what was sent
	Missing                 // no such experiment, run, model, version
	Exists                  // a name is taken
	Unsupported             // the server does not know the request: it is too old, or no MLflow server
	Unusable                // the address or the answer is not MLflow's
)

// Error is what went wrong with a request. Its texts hold no credentials.
type Error struct {
	Kind    Kind
	Op      string // "runs/create"
	Where   string // the server
	Status  int    // 0: there was no answer
	Code    string // MLflow's error_code; may be empty
	Message string
	Remedy  string // what to do; may be empty
	Err     error

	after time.Duration // the server asks to wait
}

// Error names what was tried, where, the cause and the remedy.
func (e *Error) Error() string {
	s := e.Op
	if e.Where != "" {
		s += " at " + e.Where
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Passing tells whether the same request may succeed later.
func (e *Error) Passing() bool { return e.Kind == Network || e.Kind == Busy }

// IsKind tells whether an error is one of a kind.
func IsKind(err error, kind Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == kind
}

// broken makes an error of a request that got no whole answer.
func (c *Client) broken(ctx context.Context, method, path string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var inner *url.Error
	if errors.As(err, &inner) {
		err = inner.Err // it repeats the address
	}
	e := &Error{Kind: Network, Op: opName(method, path), Where: c.String(), Err: err}
	if text := err.Error(); strings.Contains(text, "certificate") || strings.Contains(text, "tls:") {
		e.Kind, e.Remedy = Unusable, "MLFLOW_TRACKING_SERVER_CERT_PATH names an authority to trust, MLFLOW_TRACKING_INSECURE_TLS=true trusts any"
	} else if strings.Contains(text, "server gave HTTP response to HTTPS client") {
		e.Kind, e.Remedy = Unusable, "write http:// instead of https://"
	}
	return e
}

// refused makes an error of an answer that is not 2xx. Only MLflow's own errors are JSON; the framework's are HTML, its
// host check's plain text.
func (c *Client) refused(method, path string, answer *http.Response, body []byte) error {
	e := &Error{Kind: Refused, Op: opName(method, path), Where: c.String(), Status: answer.StatusCode, after: retryAfter(answer.Header)}
	var said struct {
		Code    string `json:"error_code"`
		Message string `json:"message"`
	}
	ours := json.Unmarshal(body, &said) == nil && said.Code != ""
	e.Code, e.Message = said.Code, fmt.Sprintf("%d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	switch {
	case ours:
		e.Message = firstLine([]byte(said.Message)) // the rest may be SQL
	case len(body) > 0 && !bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")):
		e.Message += ": " + firstLine(body)
	}
	switch status := answer.StatusCode; {
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status == http.StatusInternalServerError, status == http.StatusBadGateway,
		status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
		e.Kind = Busy
	case status == http.StatusUnauthorized:
		e.Kind, e.Remedy = Denied, c.whoAsked()
	case status == http.StatusForbidden && strings.Contains(string(body), "Host header"):
		e.Kind, e.Remedy = Denied, fmt.Sprintf("start the server with --allowed-hosts %s,%s:* (MLFLOW_SERVER_ALLOWED_HOSTS): it answers to no other name", c.base.Hostname(), c.base.Hostname())
	case status == http.StatusForbidden:
		e.Kind, e.Remedy = Denied, c.whoAsked()
	case said.Code == "RESOURCE_ALREADY_EXISTS":
		e.Kind = Exists
	case said.Code == "RESOURCE_DOES_NOT_EXIST":
		e.Kind = Missing
	case status == http.StatusNotImplemented, said.Code == "ENDPOINT_NOT_FOUND", (status == http.StatusNotFound || status == http.StatusMethodNotAllowed) && !ours:
		e.Kind = Unsupported
	case status >= 300 && status < 400:
		e.Kind, e.Message = Unusable, "the server sends elsewhere: "+shown(answer.Header.Get("Location"))
	case status >= 500:
		e.Kind = Busy
	}
	return e
}

// whoAsked says which credentials were used, and where others would be put.
func (c *Client) whoAsked() string {
	switch {
	case c.o.Username != "" && c.o.Password != "":
		return fmt.Sprintf("asked as user %q (MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD)", c.o.Username)
	case c.o.Token != "":
		return "asked with the token of MLFLOW_TRACKING_TOKEN"
	}
	return "asked without credentials: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
}

// opName is a request as messages name it: what of its path is the API's.
func opName(method, path string) string {
	path, _, _ = strings.Cut(path, "?")
	path = strings.TrimPrefix(strings.TrimPrefix(path, api), "/api/2.0/")
	return method + " " + path
}

// shown is an address as messages may show it: without password and query.
func shown(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "an address that cannot be read"
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	u.RawQuery = ""
	return u.String()
}

// firstLine is the beginning of a text, for messages.
func firstLine(text []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(text), []byte("\n"))
	return cut(string(line), 300)
}

// cut shortens a text to at most n characters.
func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	runes := []rune(s)
	return string(runes[:n-1]) + "…"
}
