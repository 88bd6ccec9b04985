package main

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/rogpeppe/go-internal/testscript"

	"lpipe/download/hubtest"
)

type hubKey struct{}

// setupHub gives a script a hub of its own: HF_ENDPOINT is its address, STORAGE that of the storage behind it.
func setupHub(env *testscript.Env) {
	hub := hubtest.Start()
	env.Defer(hub.Close)
	env.Values[hubKey{}] = hub
	env.Setenv("HF_ENDPOINT", hub.URL)
	env.Setenv("STORAGE", hub.Storage)
	env.Setenv("HF_HOME", filepath.Join(env.WorkDir, ".hf"))
}

// hub plays with a script's hub:
//
//	hub commit ORG/NAME BRANCH FOLDER   the folder's files are that branch now; COMMIT is the commit
//	hub require TOKEN [gated]           who has no such token is refused
//	hub expire                          all signed addresses given so far have expired; each later one does once more
//	hub asked / ! hub asked             whether anybody has asked it since the last time, or the start
func hub(ts *testscript.TestScript, neg bool, args []string) {
	h := ts.Value(hubKey{}).(*hubtest.Hub)
	switch {
	case len(args) == 4 && args[0] == "commit":
		files := map[string]string{}
		root := ts.MkAbs(args[3])
		ts.Check(filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			rel, _ := filepath.Rel(root, path)
			files[filepath.ToSlash(rel)] = string(data)
			return err
		}))
		ts.Setenv("COMMIT", h.Commit(args[1], args[2], files))
	case len(args) >= 2 && args[0] == "require":
		h.Require(args[1], len(args) > 2)
	case len(args) == 1 && args[0] == "expire":
		var done atomic.Bool
		h.Break(func(_ http.ResponseWriter, _ *http.Request, storage bool) bool {
			if storage && !done.Swap(true) {
				h.Expire()
			}
			return false
		})
	case len(args) == 1 && args[0] == "asked":
		if requests := h.Requests(); (len(requests) > 0) == neg {
			ts.Fatalf("requests: %v", requests)
		}
	default:
		ts.Fatalf("usage: hub commit|require|expire|asked ...")
	}
}
