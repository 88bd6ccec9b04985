// Package hubtest is a small hub for tests: a real HTTP server that speaks the protocol of Hugging Face's, a second one
// that plays the storage behind it, and a hook for everything that can go wrong between them.
package hubtest

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Hub is the pair of servers. Large files (those whose name ends in .safetensors, .parquet or .bin) lie at the storage,
// behind signed addresses; the others are served by the hub.
type Hub struct {
	URL     string // of the hub
	Storage string // of the storage, another host

	mu       sync.Mutex // guards what follows
	repos    map[string]*repo
	token    string
	gated    bool
	pageSize int
	epoch    int // signatures of earlier epochs have expired
	fault    Fault
	requests []string
	stray    []string

	servers []*httptest.Server
}

// Fault is called before each request is answered; storage tells which server got it. If it returns true, it has
// answered.
type Fault func(w http.ResponseWriter, r *http.Request, storage bool) bool

type repo struct {
	branches map[string]string            // to commit
	commits  map[string]map[string]string // to path, to content
}

// Start starts both servers; Close ends them.
func Start() *Hub {
	h := &Hub{repos: map[string]*repo{}, pageSize: 1000}
	hub := httptest.NewServer(http.HandlerFunc(h.serveHub))
	storage := httptest.NewServer(http.HandlerFunc(h.serveStorage))
	h.URL, h.Storage = hub.URL, strings.Replace(storage.URL, "127.0.0.1", "localhost", 1)
	h.servers = []*httptest.Server{hub, storage}
	return h
}

// Close ends the servers.
func (h *Hub) Close() {
	for _, server := range h.servers {
		server.CloseClientConnections()
		server.Close()
	}
}

// Commit makes a branch of a repository ("ORG/NAME", "datasets/ORG/NAME") consist of files, and returns the commit.
func (h *Hub) Commit(name, branch string, files map[string]string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.repos[name]
	if r == nil {
		r = &repo{map[string]string{}, map[string]map[string]string{}}
		h.repos[name] = r
	}
	text, _ := json.Marshal(files)
	sum := sha1.Sum(text)
	commit := hex.EncodeToString(sum[:])
	r.branches[branch], r.commits[commit] = commit, maps.Clone(files)
	return commit
}

// Require demands a token; gated says that the repositories are gated, not private.
func (h *Hub) Require(token string, gated bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.token, h.gated = token, gated
}

// Pages sets how many entries a page of a list has.
func (h *Hub) Pages(size int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pageSize = size
}

// Expire makes all signatures given so far worthless.
func (h *Hub) Expire() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.epoch++
}

// Break installs a fault; nil ends it.
func (h *Hub) Break(f Fault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fault = f
}

// Requests returns, and forgets, the requests so far: "GET /api/models/…", those at the storage as "GET storage/…".
func (h *Hub) Requests() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	requests := h.requests
	h.requests = nil
	return requests
}

// Stray lists requests that took a token to the storage.
func (h *Hub) Stray() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stray
}

func (h *Hub) note(r *http.Request, at string) Fault {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests = append(h.requests, r.Method+" "+at+r.URL.Path)
	if at != "" && r.Header.Get("Authorization") != "" {
		h.stray = append(h.stray, r.URL.Path)
	}
	return h.fault
}

// Refuse answers with a hub's error.
func Refuse(w http.ResponseWriter, status int, code, message string) {
	if code != "" {
		w.Header().Set("X-Error-Code", code)
	}
	w.Header().Set("X-Error-Message", message)
	http.Error(w, message, status)
}

func (h *Hub) serveHub(w http.ResponseWriter, r *http.Request) {
	if fault := h.note(r, ""); fault != nil && fault(w, r, false) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.token != "" && r.Header.Get("Authorization") != "Bearer "+h.token {
		code := "RepoNotFound"
		if h.gated {
			code = "GatedRepo"
		}
		Refuse(w, http.StatusUnauthorized, code, "access is restricted")
		return
	}
	path := strings.TrimPrefix(r.URL.EscapedPath(), "/")
	api := strings.HasPrefix(path, "api/")
	path = strings.TrimPrefix(strings.TrimPrefix(path, "api/"), "models/")
	parts := strings.SplitN(path, "/", 5)
	if parts[0] != "datasets" {
		parts = append([]string{""}, strings.SplitN(path, "/", 4)...)
	}
	if len(parts) < 5 {
		Refuse(w, http.StatusNotFound, "", "no such page")
		return
	}
	name := strings.TrimPrefix(strings.Join(parts[:3], "/"), "/")
	found := h.repos[name]
	if found == nil {
		Refuse(w, http.StatusNotFound, "RepoNotFound", "Repository not found")
		return
	}
	revision, file, _ := strings.Cut(parts[4], "/")
	revision, _ = url.PathUnescape(revision)
	commit := revision
	if at, ok := found.branches[revision]; ok {
		commit = at
	}
	files, ok := found.commits[commit]
	if !ok {
		Refuse(w, http.StatusNotFound, "RevisionNotFound", "Invalid rev id: "+revision)
		return
	}
	switch {
	case api && parts[3] == "revision":
		json.NewEncoder(w).Encode(map[string]any{"id": name, "sha": commit})
	case api && parts[3] == "tree":
		h.list(w, r, files)
	case !api && parts[3] == "resolve":
		file, _ = url.PathUnescape(file)
		h.resolve(w, r, name, commit, file, files)
	default:
		Refuse(w, http.StatusNotFound, "", "no such page")
	}
}

// list answers with a page of the tree: files, and a folder for each that holds some.
func (h *Hub) list(w http.ResponseWriter, r *http.Request, files map[string]string) {
	var entries []map[string]any
	folders := map[string]bool{}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if at := strings.LastIndexByte(path, '/'); at >= 0 && !folders[path[:at]] {
			folders[path[:at]] = true
			entries = append(entries, map[string]any{"type": "directory", "path": path[:at], "size": 0, "oid": blobHash("")})
		}
		entry := map[string]any{"type": "file", "path": path, "size": len(files[path]), "oid": blobHash(files[path])}
		if large(path) {
			entry["lfs"] = map[string]any{"oid": contentHash(files[path]), "size": len(files[path]), "pointerSize": 130}
		}
		entries = append(entries, entry)
	}
	from, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
	from = min(from, len(entries))
	to := min(from+h.pageSize, len(entries))
	if to < len(entries) {
		w.Header().Set("Link", fmt.Sprintf(`<%s%s?recursive=true&expand=false&cursor=%d>; rel="next"`, h.URL, r.URL.EscapedPath(), to))
	}
	json.NewEncoder(w).Encode(entries[from:to])
}

func (h *Hub) resolve(w http.ResponseWriter, r *http.Request, name, commit, path string, files map[string]string) {
	content, ok := files[path]
	if !ok {
		Refuse(w, http.StatusNotFound, "EntryNotFound", "Entry not found")
		return
	}
	w.Header().Set("X-Repo-Commit", commit)
	if !large(path) {
		w.Header().Set("ETag", `"`+blobHash(content)+`"`)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
		return
	}
	w.Header().Set("X-Linked-Etag", `"`+contentHash(content)+`"`)
	w.Header().Set("X-Linked-Size", strconv.Itoa(len(content)))
	w.Header().Set("Location", fmt.Sprintf("%s/%s/%s/%s?signature=%d", h.Storage, name, commit, path, h.epoch))
	w.WriteHeader(http.StatusFound)
}

// serveStorage answers for /NAME/COMMIT/PATH, where NAME has a slash, or two for data sets.
func (h *Hub) serveStorage(w http.ResponseWriter, r *http.Request) {
	if fault := h.note(r, "storage"); fault != nil && fault(w, r, true) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.URL.Query().Get("signature") != strconv.Itoa(h.epoch) {
		http.Error(w, "AccessDenied: Request has expired", http.StatusForbidden)
		return
	}
	for name, repo := range h.repos {
		rest, ours := strings.CutPrefix(r.URL.Path, "/"+name+"/")
		commit, path, _ := strings.Cut(rest, "/")
		if content, ok := repo.commits[commit][path]; ours && ok {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
			return
		}
	}
	http.NotFound(w, r)
}

func large(path string) bool {
	return strings.HasSuffix(path, ".safetensors") || strings.HasSuffix(path, ".parquet") || strings.HasSuffix(path, ".bin")
}

func blobHash(content string) string {
	sum := sha1.Sum([]byte(fmt.Sprintf("blob %d\x00%s", len(content), content)))
	return hex.EncodeToString(sum[:])
}

func contentHash(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}
