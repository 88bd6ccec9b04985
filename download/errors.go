package download

import (
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Kind says what sort of failure an Error is.
type Kind int

// The kinds of failure.
const (
	Network  Kind = iota // nobody answers, or answers break off
	Server               // the server failed, or answers what no hub answers
	Limited              // too many requests, for longer than is reasonable to wait
	Denied               // no token, a wrong one, or no right to this repository
	NotFound             // no such repository, revision or file
	Damaged              // what arrived is not what was announced
	Offline              // the network would be needed, and must not be used
)

// Error is a failure to download. URL has neither credentials nor signature in it.
type Error struct {
	Kind    Kind
	URL     string
	Status  int // of the answer; 0: there was none
	Message string
	Err     error

	after time.Duration // how long the server wants us to wait; 0: it does not say
}

func (e *Error) Error() string {
	text := e.Message
	if e.URL != "" {
		text += " (" + e.URL + ")"
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// passes tells whether the same request may succeed later.
func (e *Error) passes() bool {
	switch e.Kind {
	case Network, Limited:
		return true
	case Server:
		return e.Status == 0 || e.Status >= 500 && e.Status != http.StatusNotImplemented || e.Status == http.StatusRequestTimeout
	}
	return false
}

// shown is an address as messages may show it: without password, and without the query, which signs it.
func shown(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "an address that does not parse"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// refusal makes an Error of an answer that is not a success.
func refusal(r *http.Response) *Error {
	e := &Error{Kind: Server, URL: shown(r.Request.URL.String()), Status: r.StatusCode, Message: "the server answers " + r.Status}
	switch r.StatusCode {
	case http.StatusTooManyRequests:
		e.Kind, e.Message, e.after = Limited, "too many requests", waitTime(r.Header)
	case http.StatusServiceUnavailable:
		e.after = waitTime(r.Header)
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Kind = Denied
	case http.StatusNotFound, http.StatusGone:
		e.Kind = NotFound
	}
	return e
}

// explain says what an answer about a repository means, by X-Error-Code where there is one.
func (c *Client) explain(e *Error, repo Repo, revision, file string, header http.Header) *Error {
	page := c.endpoint() + "/" + repo.path()
	token := "give a token: HF_TOKEN, or the file that `hf auth login` writes"
	if c.Token != "" {
		token = "the token that was given does not open it: see https://huggingface.co/settings/tokens"
	}
	switch code := header.Get("X-Error-Code"); {
	case code == "GatedRepo":
		e.Kind = Denied
		e.Message = fmt.Sprintf("%s is gated: accept its terms at %s, and %s", repo, page, token)
	case code == "RevisionNotFound":
		e.Kind = NotFound
		e.Message = fmt.Sprintf("%s has no revision %q: %s/tree/main shows its branches", repo, revision, page)
	case code == "EntryNotFound":
		e.Kind = NotFound
		e.Message = fmt.Sprintf("%s has no file %q at revision %s", repo, file, revision)
	case code == "RepoNotFound", e.Status == http.StatusNotFound:
		e.Kind = NotFound
		e.Message = fmt.Sprintf("%s does not exist at %s, or is private: look at the spelling (a data set is datasets/ORG/NAME), or %s", repo, c.endpoint(), token)
	case e.Kind == Denied && c.Token != "":
		e.Message = fmt.Sprintf("access to %s is refused: %s", repo, token)
	case e.Kind == Denied:
		e.Message = fmt.Sprintf("access to %s is refused without a token: %s", repo, token)
	default:
		return e
	}
	e.URL = ""
	return e
}
