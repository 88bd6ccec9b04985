package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"lpipe/download"
	"lpipe/remote"
	"lpipe/runner"
)

// fromBucket brings a source with s3: package remote knows the bucket and signs, package download does the work, so that
// ranges, resumption and checks are those of any address. The pin is the file's checksum; of a folder, that of the list of
// its files with theirs.
func (d downloader) fromBucket(ctx context.Context, s *runner.Source, want runner.Download, o download.Options) (pin string, err error) {
	name, key, _ := strings.Cut(strings.TrimPrefix(s.S3, "s3://"), "/")
	bucket, err := d.sourceBucket(ctx, name)
	if err != nil {
		return "", err
	}
	o.Token, o.Offline, o.Sign = "", d.p.offline, bucket.Sign
	client := download.New(o)
	get := func(ctx context.Context, key, to string, u download.URLOptions) (string, error) {
		sum, _, err := client.URL(ctx, bucket.Address(key), to, u)
		var refused *download.Error
		if errors.As(err, &refused) && refused.Status != 0 && refused.Kind != download.Damaged {
			err = bucket.Explain(ctx, key, refused.Status, err)
		}
		return sum, err
	}
	if key != "" && !strings.HasSuffix(key, "/") {
		return get(ctx, key, want.To, download.URLOptions{Checksum: s.Checksum, Progress: func(at download.Progress) {
			want.Progress(runner.Event{Done: float64(at.Bytes), Total: float64(at.TotalBytes), Unit: "B"})
		}})
	}
	files, err := d.bucketFiles(ctx, s, bucket, key)
	if err != nil {
		return "", err
	}
	return fetchFolder(ctx, want, key, files, get)
}

// sourceBucket opens a source's bucket by what the environment says; a remote block of the same bucket adds its region,
// endpoint and profile.
func (d downloader) sourceBucket(ctx context.Context, name string) (*remote.S3, error) {
	block := &runner.RemoteBlock{Type: "s3", Name: "s3://" + name, Bucket: name}
	for _, one := range d.remotes {
		if one.Type == "s3" && one.Bucket == name {
			block.Region, block.Endpoint, block.AWSProfile = one.Region, one.Endpoint, one.AWSProfile
			break
		}
	}
	found, err := d.p.awsConfig(ctx, block)
	if err != nil {
		return nil, err
	}
	return remote.NewS3(remote.S3Options{Config: found.config, Bucket: name, Region: block.Region, Endpoint: found.endpoint, Profile: found.profile}), nil
}

// bucketFiles lists what a source wants of a folder. What cannot be a path in the workspace is an error, not left out.
func (d downloader) bucketFiles(ctx context.Context, s *runner.Source, bucket *remote.S3, folder string) ([]remote.Item, error) {
	if d.p.offline {
		return nil, &download.Error{Kind: download.Offline, Message: s.S3 + " is needed, and the network must not be used (--offline)"}
	}
	filter := download.Filter{Include: s.Include, Exclude: s.Exclude}
	var files []remote.Item
	for item, err := range bucket.List(ctx, folder) {
		if err != nil {
			return nil, err
		}
		rel := strings.TrimPrefix(item.Name, folder)
		if rel == "" || strings.HasSuffix(rel, "/") || !filter.Keep(rel) { // markers of folders, as consoles make them
			continue
		}
		if !filepath.IsLocal(filepath.FromSlash(rel)) {
			return nil, fmt.Errorf("%s holds %q, which is no path of a file: leave it out with exclude", s.S3, rel)
		}
		files = append(files, item)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: no such folder, or no file in it that include and exclude leave", s.S3)
	}
	return files, nil
}

// fetchFolder downloads the files of a folder, several at once, and lets the folder appear whole. What an interrupted call
// got lies beside it, and is gone on with.
func fetchFolder(ctx context.Context, want runner.Download, folder string, files []remote.Item,
	get func(ctx context.Context, key, to string, o download.URLOptions) (string, error)) (pin string, err error) {
	var mu sync.Mutex // guards done and ended
	var total, done int64
	ended := 0
	came := make([]int64, len(files))
	for _, item := range files {
		total += item.Size
	}
	parts := want.To + ".part"
	sums := make([]string, len(files))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for i, item := range files {
		rel := strings.TrimPrefix(item.Name, folder)
		to := filepath.Join(parts, filepath.FromSlash(rel))
		group.Go(func() error {
			if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
				return err
			}
			if info, err := os.Stat(to); err == nil && (info.Size() != item.Size || !info.ModTime().After(item.Time)) {
				os.Remove(to) // of an earlier call, and not what is there now
			}
			sum, err := sumOf(to)
			if err != nil {
				sum, err = get(ctx, item.Name, to, download.URLOptions{Progress: func(at download.Progress) {
					mu.Lock()
					defer mu.Unlock()
					done, came[i] = done+at.Bytes-came[i], at.Bytes
					want.Progress(runner.Event{Done: float64(done), Total: float64(total), Unit: "B", Message: fmt.Sprintf("%d/%d files", ended, len(files))})
				}})
			}
			mu.Lock()
			defer mu.Unlock()
			done, came[i] = done+item.Size-came[i], item.Size
			ended++
			sums[i] = sum + " " + rel + "\n"
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return "", err
	}
	if err := os.Rename(parts, want.To); err != nil {
		return "", err
	}
	slices.Sort(sums)
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(strings.Join(sums, "")))), nil
}

// sumOf is the checksum of a file that may not be there.
func sumOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("sha256:%x", sum.Sum(nil)), nil
}
