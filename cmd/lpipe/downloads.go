package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"lpipe/download"
	"lpipe/runner"
)

// downloader brings sources for the runner: it knows what HF_* variables say, package download knows the rest. The
// variables are read when something is to be downloaded, so that no other command stumbles over them.
type downloader struct {
	p       *program
	pr      *project
	remotes []*runner.RemoteBlock // their buckets' regions and endpoints hold for sources with s3
}

var _ runner.Downloader = downloader{}

// hubOptions reads the variables that all of Hugging Face's tools read.
func (p *program) hubOptions() (o download.Options, err error) {
	endpoint := strings.TrimSpace(p.getenv("HF_ENDPOINT"))
	if u, err := url.Parse(endpoint); endpoint != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "") {
		return o, usagef("HF_ENDPOINT is %q; it must be an address like https://huggingface.co", endpoint)
	}
	home := p.getenv("HF_HOME")
	if home == "" {
		base := p.getenv("XDG_CACHE_HOME")
		if base == "" {
			base = filepath.Join(p.getenv("HOME"), ".cache")
		}
		home = filepath.Join(base, "huggingface")
	}
	cache := p.getenv("HF_HUB_CACHE")
	if cache == "" {
		cache = filepath.Join(home, "hub")
	}
	token, err := p.hubToken(home)
	if err != nil {
		return o, err
	}
	o = download.Options{
		Endpoint: endpoint, Token: token, Cache: p.expandHome(cache),
		Offline: p.offline || truthy(p.getenv("HF_HUB_OFFLINE")) || truthy(p.getenv("TRANSFORMERS_OFFLINE")),
		Agent:   "lpipe/" + release + " (" + runtime.GOOS + "; " + runtime.GOARCH + ")",
		Proxy:   http.ProxyFromEnvironment,
	}
	if seconds, err := strconv.ParseFloat(p.getenv("HF_HUB_DOWNLOAD_TIMEOUT"), 64); err == nil && seconds > 0 {
		o.Stall = time.Duration(seconds * float64(time.Second))
	}
	return o, nil
}

// hubToken is HF_TOKEN, else what lies in the file HF_TOKEN_PATH, by default the one that `hf auth login` writes.
func (p *program) hubToken(home string) (string, error) {
	if token := strings.TrimSpace(p.getenv("HF_TOKEN")); token != "" {
		return token, nil
	}
	if truthy(p.getenv("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
		return "", nil
	}
	path, named := p.lookupEnv("HF_TOKEN_PATH")
	if !named || path == "" {
		path, named = filepath.Join(home, "token"), false
	}
	data, err := os.ReadFile(p.expandHome(path))
	if err != nil && (named || !errors.Is(err, fs.ErrNotExist)) {
		return "", fmt.Errorf("read the hub's token (HF_TOKEN_PATH): %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

func (p *program) expandHome(path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		return filepath.Join(p.getenv("HOME"), rest)
	}
	return path
}

// truthy reads a variable as Hugging Face's tools do.
func truthy(value string) bool {
	switch strings.ToUpper(strings.TrimSpace(value)) {
	case "1", "ON", "YES", "TRUE":
		return true
	}
	return false
}

// Resolve asks the hub for a branch's commit. A URL without a checksum tells nothing before it is downloaded.
func (d downloader) Resolve(ctx context.Context, s *runner.Source) (string, error) {
	if s.Download == "url" || s.Download == "s3" {
		return s.Checksum, nil
	}
	if s.Download == "mlflow" {
		_, pin, err := d.resolveModel(ctx, s.MLflow)
		return pin, err
	}
	repo, err := download.ParseRepo(s.HF)
	if err != nil {
		return "", err
	}
	options, err := d.p.hubOptions()
	if err != nil {
		return "", err
	}
	return download.New(options).Resolve(ctx, repo, s.Revision)
}

// Download brings a source's files.
func (d downloader) Download(ctx context.Context, s *runner.Source, want runner.Download) (pin string, err error) {
	if s.Download == "mlflow" {
		return d.fromRegistry(ctx, s, want)
	}
	options, err := d.p.hubOptions()
	if err != nil {
		return "", err
	}
	options.Note = want.Note
	client := download.New(options)
	progress := func(at download.Progress) {
		e := runner.Event{Done: float64(at.Bytes), Total: float64(at.TotalBytes), Unit: "B"}
		if at.TotalFiles > 1 {
			e.Message = fmt.Sprintf("%d/%d files", at.Files, at.TotalFiles)
		}
		want.Progress(e)
	}
	if s.Download == "s3" {
		return d.fromBucket(ctx, s, want, options)
	}
	if s.Download == "url" {
		pin, _, err = client.URL(ctx, s.URL, want.To, download.URLOptions{Checksum: s.Checksum, Progress: progress})
		return pin, err
	}
	repo, err := download.ParseRepo(s.HF)
	if err != nil {
		return "", err
	}
	if pin = want.Pin; pin == "" {
		if pin, err = client.Resolve(ctx, repo, s.Revision); err != nil {
			return "", err
		}
	}
	snapshot, err := client.Snapshot(ctx, repo, pin, download.SnapshotOptions{
		Filter: download.Filter{Include: s.Include, Exclude: s.Exclude}, Revision: s.Revision, Unlisted: want.Known, Progress: progress,
	})
	if err != nil {
		return "", err
	}
	return pin, snapshot.Place(want.To)
}

func (p *program) updateCommand() *cli.Command {
	return &cli.Command{
		Name: "update", Category: categoryData, Usage: "move a pinned source to its branch's head, or to the best of an experiment", ArgsUsage: "SOURCE...",
		Description: "A source with hf, url, s3, mlflow or experiment stays at what the lock pins until this moves it: to the commit that its branch\n" +
			"stands at, to the file that is at the address now, to the instance that is the best now, to the version\n" +
			"that an alias stands for. What does not move is not downloaded.",
		Action: p.update,
	}
}

func (p *program) update(c *cli.Context) error {
	view := p.newProgressView()
	pr, err := p.open(c.Context, projectOptions{allowMissing: true, report: view.event})
	if err != nil {
		view.close()
		return err
	}
	defer pr.close(p)
	done, err := pr.runner.Update(c.Context, c.Args().Slice())
	view.close()
	if p.json && err == nil {
		if done == nil {
			done = []runner.Updated{}
		}
		return p.printJSON(map[string]any{"schema": 1, "updated": done})
	}
	for _, one := range done {
		switch {
		case p.json || p.quiet:
		case !one.Changed:
			p.result("source.%s  stays at %s", one.Name, shortPin(one.Pin))
		case one.Old == "":
			p.result("source.%s  at %s  %s", one.Name, shortPin(one.Pin), contentText(one.Content))
		default:
			p.result("source.%s  %s → %s  %s", one.Name, shortPin(one.Old), shortPin(one.Pin), contentText(one.Content))
		}
	}
	return err
}

// shortPin shortens a commit, or a checksum's digits.
func shortPin(pin string) string {
	if strings.Contains(pin, "/") {
		return pin // an instance's
	}
	if strings.HasPrefix(pin, "models:/") {
		return pin
	}
	algorithm, digits, isSum := strings.Cut(pin, ":")
	if !isSum {
		algorithm, digits = "", pin
	} else {
		algorithm += ":"
	}
	return algorithm + digits[:min(len(digits), 12)]
}
