package runner

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"lpipe/cache"
)

// Downloader brings what the source blocks with hf, url, s3 and mlflow name.
type Downloader interface {
	// Resolve returns the pin that a source would get now: a repository's commit, a file's checksum. "" means that only
	// downloading tells.
	Resolve(ctx context.Context, s *Source) (pin string, err error)
	// Download puts a source's files, verified, at a path where nothing stands, and returns the pin that they are at.
	Download(ctx context.Context, s *Source, d Download) (pin string, err error)
}

// Download says how a source is to be downloaded.
type Download struct {
	Pin      string // what to download; "": what the source stands for now
	Known    bool   // the content is on record: what comes is compared with it
	To       string
	Progress func(Event)
	Note     func(message string) // told of waits that a person would wonder about
}

// notPinned is what is wrong with a download of which nothing, or something else, is on record.
func (s *Source) notPinned() error {
	if s.Download == "experiment" {
		return fmt.Errorf("source.%s is not chosen yet; lpipe repro takes it from the best instance of experiment %s", s.Name, s.Experiment)
	}
	return fmt.Errorf("source.%s is not downloaded yet; lpipe repro downloads it", s.Name)
}

// fetchable tells whether a source is downloaded by lpipe.
func (s *Source) fetchable() bool {
	return s.Download == "hf" || s.Download == "url" || s.Download == "s3" || s.Download == "mlflow" || s.Download == "experiment"
}

// checkDownload says what is wrong with the place of a download, "" if nothing is: it is replaced as a whole.
func (p *Plan) checkDownload(s *Source) (wrong string) {
	if !s.fetchable() {
		return ""
	}
	holds := func(at string) bool { return at == s.Path || strings.HasPrefix(at, s.Path+"/") }
	first, rest, _ := strings.Cut(s.Path, "/")
	switch {
	case s.Path == "." || first == ".." || s.Path == "/":
		return "is more than the workspace's part for it"
	case first == ".lpipe" && !strings.HasPrefix(rest, "sources/"):
		return "is lpipe's own"
	case slices.ContainsFunc(p.Pipeline.Files, func(file string) bool { return holds(path.Clean(file)) }):
		return "holds a pipeline file"
	case len(p.below(s.Path)) > 0:
		return "holds " + p.below(s.Path)[0].Path + ", an output of stage " + p.below(s.Path)[0].node.Step.Name
	}
	for _, other := range p.Pipeline.Sources {
		if other != s && (holds(other.Path) || other.fetchable() && strings.HasPrefix(s.Path, other.Path+"/")) {
			return "holds source." + other.Name + ", or lies in it"
		}
	}
	return ""
}

// origin says in the lock what a source is a download of. The pin holds as long as this stays.
func (s *Source) origin() string {
	words := []string{s.Download}
	for _, one := range []struct{ name, value string }{{"hf", s.HF}, {"revision", s.Revision}, {"url", s.URL}, {"s3", s.S3}, {"checksum", s.Checksum}, {"mlflow", s.MLflow}, {"experiment", s.Experiment}, {"output", s.Output}} {
		hidden := slices.ContainsFunc(s.Settings, func(set Setting) bool { return set.Name == one.name && set.Sensitive })
		switch {
		case hidden:
			words = append(words, "sensitive "+cache.Sum([]byte(one.value)).String())
		case one.value != "":
			words = append(words, one.value)
		}
	}
	return strings.Join(words, " ")
}

// choice is a digest of the settings that say which files of the origin are wanted, "" if all are.
func (s *Source) choice() string {
	var text strings.Builder
	for _, one := range s.Settings {
		if (one.Name == "include" || one.Name == "exclude") && one.Value != "[]" {
			fmt.Fprintf(&text, "%s %s\n", one.Name, one.Value)
		}
	}
	if text.Len() == 0 {
		return ""
	}
	sum := cache.Sum([]byte(text.String()))
	return hex.EncodeToString(sum[:8])
}

// pinned returns what is on record of a download, and whether that is of what its block says now.
func (v *view) pinned(s *Source) (LockSource, bool) {
	record, known := v.source(s.Path)
	return record, known && record.Pin != "" && !record.ID.IsZero() && record.From == s.origin() && record.Choice == s.choice()
}

// downloadedInput is an input that lies in a download: what is pinned counts, whatever stands there.
func (v *view) downloadedInput(ctx context.Context, n *Node, one readInput) (readInput, error) {
	source := one.origin.Download
	record, fits := v.pinned(source)
	if !fits {
		return one, fmt.Errorf("input %q: %w", one.Name, source.notPinned())
	}
	reads := n.reads(one.nodeInput)
	scan, err := v.scan(ctx, one.nodeInput)
	switch {
	case err == nil && (one.Path != source.Path || scan.Content == record.Content):
		one.content = scan.Content
		if reads != nil && scan.Dir {
			one.digest = scan.Digest(matching(reads))
		}
		return one, nil
	case err == nil || errors.Is(err, fs.ErrNotExist):
		return v.missingInput(n, one, reads != nil)
	}
	return one, fmt.Errorf("input %q: %w", one.Name, err)
}

// unpinned is the first download that a node reads and that has to be downloaded before anything about the node is
// known, with the reason.
func (v *view) unpinned(n *Node) (Reason, bool) {
	for i := range n.inputs {
		if origin := n.inputs[i].origin; origin != nil && origin.Download != nil {
			if reason, missing := v.unpinnedSource(origin.Download); missing {
				return reason, true
			}
		}
	}
	return Reason{}, false
}

func (v *view) unpinnedSource(s *Source) (Reason, bool) {
	record, fits := v.pinned(s)
	switch now := s.origin(); {
	case fits:
		return Reason{}, false
	case record.From == "" && s.Download == "experiment":
		return Reason{What: "input", Name: s.Path, New: "the best of experiment " + s.Experiment + ", not chosen yet"}, true
	case record.From == "":
		return Reason{What: "input", Name: s.Path, New: "not downloaded yet"}, true
	case record.From != now:
		return Reason{What: "input", Name: s.Path, Old: record.From, New: now + ", not downloaded yet"}, true
	}
	return Reason{What: "input", Name: s.Path, Old: "other files", New: "include or exclude changed, not downloaded yet"}, true
}

// bringDownloads sees to it that the downloads which a node reads are pinned, and that nothing else stands in their
// place. Their bytes may be missing as long as the node's key can be told without them.
func (x *execution) bringDownloads(ctx context.Context, n *Node) error {
	for i := range n.inputs {
		in := &n.inputs[i]
		if in.origin == nil || in.origin.Download == nil {
			continue
		}
		if err := x.bringDownload(ctx, in.origin.Download, x.needsBytes(n, in)); err != nil {
			return fmt.Errorf("input %q: %w", in.Name, err)
		}
	}
	return nil
}

// needsBytes tells whether a node's key hangs on more than the recorded content of an input.
func (x *execution) needsBytes(n *Node, in *nodeInput) bool {
	if _, known := x.source(in.Path); !known {
		return true
	}
	return n.reads(in) != nil && x.lock.Stages[n.Step.Name].In[in.Name].IsZero()
}

// bringDownload makes one download what its block says, one caller at a time.
func (x *execution) bringDownload(ctx context.Context, s *Source, bytes bool) error {
	defer x.alone(s.Path)()
	record, fits := x.pinned(s)
	if fits {
		scan, err := x.Cache.Scan(ctx, x.State, x.Plan.abs(s.Path))
		switch {
		case err == nil && scan.Content == record.Content:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil || !errors.Is(err, fs.ErrNotExist):
			bytes = true // an edit, which is undone at once
		}
		if !bytes {
			return nil
		}
		if found, err := x.fromCache(ctx, s, record); found || err != nil {
			return err
		}
	}
	x.letGo() // a download may take hours
	moved, err := x.download(ctx, s, x.pinFor(s, record), fits, record)
	if err != nil {
		return err
	}
	x.forget(s)
	if moved == record {
		return nil
	}
	return x.recordDownload(ctx, s, moved)
}

// pinFor is the pin that a download stays at: that on record, while it is of the same origin.
func (r *Runner) pinFor(s *Source, record LockSource) string {
	if record.From == s.origin() {
		return record.Pin
	}
	return ""
}

// fromCache puts a download in place that was stored: from the cache, else from the remote.
func (x *execution) fromCache(ctx context.Context, s *Source, record LockSource) (bool, error) {
	missing, err := x.Cache.Missing(ctx, record.Content)
	here := err == nil && len(missing) == 0
	if !here && !(record.Stored && x.bring(ctx, []cache.Content{record.Content})) {
		return false, nil
	}
	if err := x.safe(s.Path); err != nil {
		return false, err
	}
	if err := x.clearDownload(ctx, s); err != nil {
		return false, err
	}
	_, err = x.Cache.Place(ctx, x.State, record.Content, x.Plan.abs(s.Path))
	x.forget(s)
	if errors.Is(err, cache.ErrNotFound) || errors.Is(err, cache.ErrDamaged) {
		return false, nil
	}
	return err == nil, err
}

// forget makes later looks at a download, and at what lies in it, look again.
func (x *execution) forget(s *Source) {
	x.scans.forget(s.Path)
	for _, origin := range x.Plan.Sources {
		if origin.Download == s {
			x.scans.forget(origin.Path)
		}
	}
}

// download brings a source and returns its new record. With known, what comes must be what the record says.
func (r *Runner) download(ctx context.Context, s *Source, pin string, known bool, record LockSource) (LockSource, error) {
	downloader := r.downloader(s)
	if downloader == nil {
		return record, s.notPinned()
	}
	at := r.Plan.abs(s.Path)
	if err := staysInside(r.dir, filepath.Dir(filepath.FromSlash(s.Path))); err != nil {
		return record, err
	}
	temp, err := r.staging(s)
	if err != nil {
		return record, writeError(r.dir, err)
	}
	began := r.Now()
	r.report(RunEvent{Event: "fetch", Source: s.Name})
	pin, err = downloader.Download(ctx, s, Download{Pin: pin, Known: known, To: temp,
		Progress: func(e Event) { r.report(RunEvent{Event: "progress", Source: s.Name, Progress: &e}) },
		Note:     func(message string) { r.report(RunEvent{Event: "note", Source: s.Name, Message: message}) }})
	done := RunEvent{Event: "fetched", Source: s.Name, Seconds: r.Now().Sub(began).Seconds()}
	if err != nil {
		done.Error = err.Error()
	}
	r.report(done)
	if err != nil {
		return record, fmt.Errorf("source.%s: %w", s.Name, err)
	}
	if err := r.settleDownload(ctx, s, temp, record.Pin != ""); err != nil {
		return record, err
	}
	scan, err := r.Cache.Scan(ctx, r.State, at)
	if err != nil {
		return record, err
	}
	if known && scan.Content != record.Content {
		return record, errors.Join(removeAll(at), fmt.Errorf("source.%s at %s is not what %s records (%s, not %s): it was changed where it comes from; lpipe update %s accepts what is there now: %w",
			s.Name, pin, filepath.Base(LockPath(r.dir, r.Pipeline.Profile)), scan.ID, record.ID, s.Name, cache.ErrDamaged))
	}
	stored := record.Stored && scan.Content == record.Content || s.Download == "experiment" // which is in the cache, and to be pushed
	return LockSource{Content: scan.Content, Stored: stored, Pin: pin, From: s.origin(), Choice: s.choice()}, nil
}

// settleDownload puts a download in its place. What no lock says was lpipe's is left alone outside of .lpipe: somebody
// else may keep files there.
func (r *Runner) settleDownload(ctx context.Context, s *Source, temp string, ours bool) error {
	at := r.Plan.abs(s.Path)
	if !ours && standsAt(at) {
		now, err := r.Cache.Scan(ctx, r.State, temp)
		if err != nil {
			return err
		}
		if was, err := r.Cache.Scan(ctx, r.State, at); err == nil && was.Content == now.Content {
			return removeAll(temp)
		}
		if !strings.HasPrefix(s.Path, ".lpipe/") && !removeEmpty(at) {
			return errors.Join(removeAll(temp), fmt.Errorf("source.%s: %s already holds something else; move that away, or give the source another dir", s.Name, s.Path))
		}
	}
	if err := r.clearDownload(ctx, s); err != nil {
		return err
	}
	if err := replace(temp, at); err != nil {
		return writeError(r.dir, err)
	}
	return writeError(r.dir, syncDir(filepath.Dir(at)))
}

// removeEmpty removes a folder that holds nothing.
func removeEmpty(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir() && os.Remove(path) == nil
}

// staging is where a source is downloaded to before it takes its place: nothing stands there, and a rename leads from
// there to its place. What an interrupted download left beside it stays, to be gone on with.
func (r *Runner) staging(s *Source) (string, error) {
	parent := filepath.Dir(r.Plan.abs(s.Path))
	if err := os.MkdirAll(parent, 0o777); err != nil {
		return "", err
	}
	own := r.path("downloads")
	if err := os.MkdirAll(own, 0o777); err != nil {
		return "", err
	}
	temp := filepath.Join(own, s.Name)
	if !sameDisk(own, parent) {
		temp = filepath.Join(parent, ".lpipe-"+s.Name)
	}
	return temp, removeAll(temp)
}

func sameDisk(a, b string) bool {
	device := func(path string) (any, bool) {
		info, err := os.Stat(path)
		if err != nil {
			return nil, false
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil, false
		}
		return stat.Dev, true
	}
	one, known := device(a)
	other, too := device(b)
	return known && too && one == other
}

// clearDownload removes what stands in a download's place. What no lock knows is kept.
func (r *Runner) clearDownload(ctx context.Context, s *Source) error {
	at := r.Plan.abs(s.Path)
	if !standsAt(at) {
		return nil
	}
	scan, err := r.Cache.Scan(ctx, r.State, at)
	if err != nil || !r.recordedSource(scan.Content) {
		if err := r.keepEdit(ctx, nil, &StepOutput{Path: s.Path}); err != nil {
			return err
		}
	}
	return writeError(r.dir, removeAll(at))
}

// recordedSource tells whether a lock of this workspace names content as a source's: it can be had again.
func (r *Runner) recordedSource(content cache.Content) bool {
	locks := []*Lock{r.lock}
	files, _ := lockFiles(r.dir) // without them content is kept that need not be
	for _, file := range files {
		if lock, err := ReadLock(file); err == nil {
			locks = append(locks, lock)
		}
	}
	return slices.ContainsFunc(locks, func(l *Lock) bool {
		for _, source := range l.Sources {
			if source.Content == content && source.Pin != "" {
				return true
			}
		}
		return false
	})
}

// recordDownload makes a new pin part of the record, with all that hangs on it.
func (x *execution) recordDownload(ctx context.Context, s *Source, moved LockSource) error {
	sources, stages, err := x.follow(ctx, s, moved)
	if err != nil {
		return err
	}
	var entries []entry
	for _, at := range slices.Sorted(maps.Keys(sources)) {
		content := sources[at]
		entries = append(entries, entry{Profile: x.Pipeline.Profile, Source: at, Content: &content})
	}
	for _, name := range slices.Sorted(maps.Keys(stages)) {
		stage := stages[name]
		entries = append(entries, entry{Profile: x.Pipeline.Profile, Stage: name, Done: &stage})
	}
	if _, err = x.record(entries); err == nil {
		x.recorded(entries)
	}
	return err
}

// follow lists what else changes in the record when a download moves: the content of paths in it that stages read, and
// the stages whose recorded digest of some of its files is not that of the new ones. That digest goes: without the
// files it would pass for the new one.
func (r *Runner) follow(ctx context.Context, s *Source, moved LockSource) (map[string]LockSource, map[string]LockStage, error) {
	sources, stages := map[string]LockSource{s.Path: moved}, map[string]LockStage{}
	for _, origin := range r.Plan.Sources {
		if origin.Download != s {
			continue
		}
		scan, err := r.Cache.Scan(ctx, r.State, r.Plan.abs(origin.Path))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, err
		}
		if err != nil {
			return nil, nil, fmt.Errorf("source.%s has no %s, which stage %s reads: %w", s.Name, strings.TrimPrefix(origin.Path, s.Path+"/"), origin.Readers[0].Step.Name, err)
		}
		if origin.Path != s.Path {
			sources[origin.Path] = LockSource{Content: scan.Content}
		}
		for _, n := range origin.Readers {
			r.dropDigests(n, origin, scan, stages)
		}
	}
	return sources, stages, nil
}

func (r *Runner) dropDigests(n *Node, origin *Origin, scan *cache.Scan, stages map[string]LockStage) {
	for i := range n.inputs {
		in := &n.inputs[i]
		reads := n.reads(in)
		stage, locked := r.lock.Stages[n.Step.Name]
		if changed, ok := stages[n.Step.Name]; ok {
			stage = changed
		}
		if in.origin != origin || reads == nil || !locked || !scan.Dir || stage.In[in.Name] == scan.Digest(matching(reads)) {
			continue
		}
		stage.In = maps.Clone(stage.In)
		delete(stage.In, in.Name)
		stages[n.Step.Name] = stage
	}
}
