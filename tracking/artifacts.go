package tracking

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Store keeps artifacts that a server does not pass on itself: s3://BUCKET/KEY.
type Store interface {
	Put(ctx context.Context, uri string, r io.ReadSeeker) error
	Get(ctx context.Context, uri string) (io.ReadCloser, error)
	List(ctx context.Context, uri string) ([]Artifact, error) // all below it, with paths from there
}

// Artifact is a file among those of a run or a model. Path is from the place that was asked for.
type Artifact struct {
	Path string
	Size int64
}

// UploadTree sends a file to a path below a run's or a model's artifacts, or all files of a folder to paths below it.
func (c *Client) UploadTree(ctx context.Context, root, to, from string) error {
	return filepath.WalkDir(from, func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := os.Stat(at) // a link's target, if it is one
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(from, at)
		if err != nil {
			return err
		}
		f, err := os.Open(at)
		if err != nil {
			return err
		}
		defer f.Close()
		return c.Upload(ctx, root, path.Join(to, filepath.ToSlash(rel)), f, info.Size())
	})
}

// Upload sends a file to a path below an artifact root, replacing what is there.
func (c *Client) Upload(ctx context.Context, root, to string, r io.ReadSeeker, size int64) error {
	place, err := c.place(root, to)
	if err != nil {
		return err
	}
	if place.store {
		return c.storeError(c.o.Store.Put(ctx, place.uri, r))
	}
	if size >= multipartFrom {
		if err := c.uploadParts(ctx, place, r, size); !IsKind(err, Unsupported) {
			return err
		}
	}
	return c.retry(ctx, func() error {
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			return err
		}
		answer, err := place.client.do(ctx, http.MethodPut, proxied+place.path, io.NopCloser(io.LimitReader(r, size)), "application/octet-stream", size)
		if err != nil {
			return err
		}
		return answer.Body.Close()
	})
}

// Download opens a file below an artifact root.
func (c *Client) Download(ctx context.Context, root, from string) (io.ReadCloser, error) {
	place, err := c.place(root, from)
	if err != nil {
		return nil, err
	}
	if place.store {
		body, err := c.o.Store.Get(ctx, place.uri)
		return body, c.storeError(err)
	}
	var body io.ReadCloser
	err = c.retry(ctx, func() error {
		answer, err := place.client.do(ctx, http.MethodGet, proxied+place.path, nil, "", 0)
		if err == nil {
			body = answer.Body
		}
		return err
	})
	return body, err
}

// Artifacts lists all files below an artifact root.
func (c *Client) Artifacts(ctx context.Context, root string) ([]Artifact, error) {
	place, err := c.place(root, "")
	if err != nil {
		return nil, err
	}
	if place.store {
		list, err := c.o.Store.List(ctx, place.uri)
		return list, c.storeError(err)
	}
	var all []Artifact
	err = c.listProxied(ctx, place, "", &all, 0)
	return all, err
}

func (c *Client) listProxied(ctx context.Context, at place, below string, all *[]Artifact, depth int) error {
	if depth > 32 {
		return fmt.Errorf("list artifacts: folders in folders, %d deep", depth)
	}
	folder, err := url.PathUnescape(at.path)
	if err != nil {
		return err
	}
	var answer struct {
		Files []struct {
			Path string `json:"path"`
			Dir  bool   `json:"is_dir"`
			Size Int64  `json:"file_size"`
		} `json:"files"`
	}
	query := url.Values{"path": {path.Join(folder, below)}}
	if err := at.client.call(ctx, http.MethodGet, strings.TrimSuffix(proxied, "/")+"?"+query.Encode(), nil, &answer); err != nil {
		return err
	}
	for _, file := range answer.Files {
		name := path.Join(below, path.Base(file.Path))
		if !filepath.IsLocal(filepath.FromSlash(name)) {
			return &Error{Kind: Unusable, Op: "list artifacts", Where: c.String(), Message: fmt.Sprintf("%q is no path of a file", file.Path)}
		}
		if !file.Dir {
			*all = append(*all, Artifact{name, int64(file.Size)})
		} else if err := c.listProxied(ctx, at, name, all, depth+1); err != nil {
			return err
		}
	}
	return nil
}

const proxied = "/api/2.0/mlflow-artifacts/artifacts/"

// place is where an artifact is: behind a server that passes it on, or in a store.
type place struct {
	client *Client
	path   string // percent-encoded
	store  bool
	uri    string
}

// place finds an artifact by its root's URI: mlflow-artifacts:/PATH is at this server, mlflow-artifacts://HOST/PATH at
// another.
func (c *Client) place(root, below string) (place, error) {
	u, err := url.Parse(root)
	if err != nil {
		return place{}, &Error{Kind: Unusable, Op: "read the artifacts' address", Message: fmt.Sprintf("%q is none", root)}
	}
	switch {
	case u.Scheme == "mlflow-artifacts":
		client := c
		if u.Host != "" {
			other := *c
			base := *c.base
			base.Host, base.Path = u.Host, ""
			other.base, client = &base, &other
		}
		segments := strings.Split(strings.Trim(path.Join(u.Path, below), "/"), "/")
		for i, s := range segments {
			segments[i] = url.PathEscape(s)
		}
		return place{client: client, path: strings.Join(segments, "/")}, nil
	case u.Scheme == "s3" && c.o.Store != nil:
		return place{store: true, uri: strings.TrimSuffix(root, "/") + "/" + below}, nil
	}
	return place{}, &Error{Kind: Unsupported, Op: "keep artifacts", Where: c.String(), Message: "the server keeps them in " + shown(root) + ", where this machine cannot put them",
		Remedy: "start it with --serve-artifacts (its default), so that it passes them on, or with a place in S3"}
}

// storeError is a store's error, which says itself what was tried and where.
func (c *Client) storeError(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return &Error{Kind: Network, Op: "keep artifacts", Err: err}
}
