package download

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// Repo is a repository of a hub: a model, or a data set.
type Repo struct {
	Name    string // ORG/NAME
	Dataset bool
}

var repoName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][\w.-]*/[\w.-]+$`) })

// ParseRepo reads "ORG/NAME" or "datasets/ORG/NAME".
func ParseRepo(text string) (Repo, error) {
	name, dataset := strings.CutPrefix(text, "datasets/")
	if !repoName().MatchString(name) || strings.Contains(name, "..") {
		return Repo{}, fmt.Errorf("%q names no repository: ORG/NAME is a model, datasets/ORG/NAME a data set", text)
	}
	return Repo{name, dataset}, nil
}

func (r Repo) String() string { return r.path() }

// path is the repository's page, and the beginning of its files' addresses.
func (r Repo) path() string {
	if r.Dataset {
		return "datasets/" + r.Name
	}
	return r.Name
}

func (r Repo) api() string {
	if r.Dataset {
		return "api/datasets/" + r.Name
	}
	return "api/models/" + r.Name
}

// folder is the repository's folder in the hub cache.
func (r Repo) folder() string {
	kind := "models--"
	if r.Dataset {
		kind = "datasets--"
	}
	return kind + strings.ReplaceAll(r.Name, "/", "--")
}

// File is a file of a commit.
type File struct {
	Path string // slashes
	Size int64
	Hash string // hexadecimal: SHA-256 of the content, or the SHA-1 of the Git blob
}

var (
	commitForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{40}$`) })
	hashForm   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`) })
)

// maxAnswer bounds a page of an answer in JSON: 1,000 entries are some 300 kB.
const maxAnswer = 64 << 20

// Resolve returns the commit that a branch, tag or abbreviation stands for now. A whole commit is returned as it is,
// without asking.
func (c *Client) Resolve(ctx context.Context, repo Repo, revision string) (commit string, err error) {
	if commitForm().MatchString(revision) {
		return revision, nil
	}
	var info struct {
		SHA string `json:"sha"`
	}
	address := c.endpoint() + "/" + repo.api() + "/revision/" + url.PathEscape(revision)
	if _, err := c.ask(ctx, address, repo, revision, &info); err != nil {
		return "", err
	}
	if !commitForm().MatchString(info.SHA) {
		return "", &Error{Kind: Server, Status: 200, URL: address, Message: fmt.Sprintf("the hub gives no commit for %s at %q", repo, revision)}
	}
	return info.SHA, nil
}

// List returns all files of a commit, page by page.
func (c *Client) List(ctx context.Context, repo Repo, commit string) ([]File, error) {
	var files []File
	seen := map[string]bool{}
	for at := c.endpoint() + "/" + repo.api() + "/tree/" + url.PathEscape(commit) + "?recursive=true&expand=false"; at != ""; {
		if seen[at] {
			return nil, &Error{Kind: Server, Status: 200, URL: shown(at), Message: "the hub's list of files leads back to itself"}
		}
		seen[at] = true
		var page []treeEntry
		next, err := c.ask(ctx, at, repo, commit, &page)
		if err != nil {
			return nil, err
		}
		for _, entry := range page {
			file, err := entry.file()
			if err != nil {
				return nil, &Error{Kind: Server, Status: 200, URL: shown(at), Message: err.Error()}
			}
			if entry.Type == "file" {
				files = append(files, file)
			}
		}
		at = next
	}
	return files, nil
}

// treeEntry is an entry of a hub's tree answer.
type treeEntry struct {
	Type string `json:"type"`
	Path string `json:"path"`
	Size int64  `json:"size"`
	OID  string `json:"oid"`
	LFS  *struct {
		OID  string `json:"oid"`
		Size int64  `json:"size"`
	} `json:"lfs"`
}

// file checks an entry: its path becomes a path on this disk, its hash a name in the cache.
func (e treeEntry) file() (File, error) {
	f := File{e.Path, e.Size, e.OID}
	if e.LFS != nil {
		f.Size, f.Hash = e.LFS.Size, strings.TrimPrefix(e.LFS.OID, "sha256:")
	}
	switch {
	case e.Type != "file":
		return f, nil
	case !filepath.IsLocal(filepath.FromSlash(f.Path)) || path.Clean(f.Path) != f.Path || strings.ContainsAny(f.Path, "\\\x00"):
		return f, fmt.Errorf("the hub lists a file with the path %q, which is no place inside a folder", f.Path)
	case !hashForm().MatchString(f.Hash) || f.Size < 0:
		return f, fmt.Errorf("the hub lists %s without a hash and a size that could be checked", f.Path)
	}
	return f, nil
}

// ask gets an answer in JSON, follows its redirects inside the hub, and returns the address of the next page.
func (c *Client) ask(ctx context.Context, address string, repo Repo, revision string, into any) (next string, err error) {
	err = c.retry(ctx, func() (bool, error) {
		answer, err := c.follow(ctx, http.MethodGet, address)
		if err != nil {
			return false, err
		}
		if answer.StatusCode != http.StatusOK {
			discard(answer)
			return false, c.explain(refusal(answer), repo, revision, "", answer.Header)
		}
		data, err := read(answer, maxAnswer)
		if err != nil {
			return false, err
		}
		if err := json.Unmarshal(data, into); err != nil {
			return false, &Error{Kind: Server, Status: 200, URL: shown(address), Message: "the answer is not the JSON of a hub (HF_ENDPOINT names the hub)", Err: err}
		}
		next = nextPage(answer)
		return true, nil
	})
	return next, err
}

// follow requests an address and follows redirects as long as they stay at the same host: renamed repositories.
func (c *Client) follow(ctx context.Context, method, address string) (*http.Response, error) {
	for range maxRedirect {
		answer, err := c.send(ctx, method, address, nil)
		if err != nil {
			return nil, err
		}
		to, moved := redirect(answer)
		if !moved || to.Host != answer.Request.URL.Host {
			return answer, nil
		}
		discard(answer)
		address = to.String()
	}
	return nil, &Error{Kind: Server, Status: http.StatusLoopDetected, URL: shown(address), Message: "too many redirects"}
}

// redirect is where an answer sends us.
func redirect(answer *http.Response) (*url.URL, bool) {
	switch answer.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		to, err := answer.Location()
		return to, err == nil
	}
	return nil, false
}

var nextLink = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`<([^>]+)>\s*;[^,]*\brel="?next"?`) })

// nextPage reads `Link: <…>; rel="next"`.
func nextPage(answer *http.Response) string {
	match := nextLink().FindStringSubmatch(strings.Join(answer.Header.Values("Link"), ", "))
	if match == nil {
		return ""
	}
	to, err := answer.Request.URL.Parse(match[1])
	if err != nil {
		return ""
	}
	return to.String()
}

// location is where a file's bytes are to be had for now, and what was said about them.
type location struct {
	url  string
	tag  string // the ETag, without weakness and quotes
	weak bool
	size int64 // -1: unknown
}

// locate asks where a file of a commit is: at the hub itself, or at a signed address elsewhere. What the hub says about
// it must agree with its list.
func (c *Client) locate(ctx context.Context, repo Repo, commit string, f File) (location, error) {
	address := c.endpoint() + "/" + repo.path() + "/resolve/" + url.PathEscape(commit) + "/" + (&url.URL{Path: f.Path}).EscapedPath()
	var at location
	err := c.retry(ctx, func() (bool, error) {
		answer, err := c.follow(ctx, http.MethodHead, address)
		if err != nil {
			return false, err
		}
		discard(answer)
		to, moved := redirect(answer)
		if !moved && answer.StatusCode != http.StatusOK {
			return false, c.explain(refusal(answer), repo, commit, f.Path, answer.Header)
		}
		at = describeAnswer(answer)
		if moved {
			at.url = to.String()
		}
		return true, nil
	})
	if err != nil {
		return at, err
	}
	if hashForm().MatchString(at.tag) && at.tag != f.Hash || at.size >= 0 && at.size != f.Size {
		return at, &Error{Kind: Damaged, URL: shown(address), Message: fmt.Sprintf("the hub lists %s with %d bytes and hash %s, and offers %d bytes and hash %s", f.Path, f.Size, f.Hash, at.size, at.tag)}
	}
	return at, nil
}

// describeAnswer reads the headers of a file's address. The X-Linked ones are about the file behind a redirect, the
// plain ones about the answer itself.
func describeAnswer(answer *http.Response) location {
	at := location{url: answer.Request.URL.String(), size: -1}
	tag := answer.Header.Get("X-Linked-Etag")
	if tag == "" {
		tag = answer.Header.Get("ETag")
	}
	tag, at.weak = strings.CutPrefix(tag, "W/")
	at.tag = strings.Trim(tag, `"`)
	if size, err := strconv.ParseInt(answer.Header.Get("X-Linked-Size"), 10, 64); err == nil {
		at.size = size
	} else if answer.StatusCode == http.StatusOK {
		at.size = answer.ContentLength
	}
	return at
}
