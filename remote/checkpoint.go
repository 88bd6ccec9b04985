package remote

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/zeebo/blake3"

	"lpipe/cache"
)

// Checkpoints: files that a stage goes on from, kept in the bucket while it runs, so that another machine can go on when this one
// is lost. They are no content of the cache and no result: each belongs to one key, and goes when newer ones are there, or with gc.
//
//	checkpoints/<key>/<name>         the file
//	checkpoints/<key>/<name>.json    checkpointRecord, put when the file is there; without it the file does not count

// checkpointRecord says what a checkpoint's bytes must be.
type checkpointRecord struct {
	Version    int               `json:"version"` // 1
	Name       string            `json:"name"`
	Size       int64             `json:"size"`
	Hash       string            `json:"blake3"`
	Host       string            `json:"host,omitempty"`
	Time       time.Time         `json:"time"`
	Signatures []cache.Signature `json:"signatures,omitempty"`
}

const (
	checkpointPrefix = "checkpoints/"
	recordEnding     = ".json"
	// keptCheckpoints: of one alone nothing is left when it proves damaged.
	keptCheckpoints = 2
)

func checkpointFolder(k cache.Key) string { return checkpointPrefix + k.String() + "/" }

// signedCheckpoint is what a checkpoint's signature covers; every line ends with a line feed.
func (c *checkpointRecord) signedText(k cache.Key) []byte {
	return fmt.Appendf(nil, "lpipe signed checkpoint 1\nkey %s\nfile %s %d %s\n", k, c.Hash, c.Size, c.Name)
}

// SendCheckpoint sends a file under its name, which must sort behind those sent before, and then removes all but the last two
// of the key.
func (r *Remote) SendCheckpoint(ctx context.Context, k cache.Key, path string) error {
	if err := r.sendCheckpoint(ctx, k, path); err != nil {
		return r.wrap("send a checkpoint to", err)
	}
	return nil
}

func (r *Remote) sendCheckpoint(ctx context.Context, k cache.Key, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	hasher := blake3.New()
	size, err := io.Copy(hasher, f)
	if err != nil {
		return err
	}
	record := checkpointRecord{Version: 1, Name: filepath.Base(path), Size: size, Hash: hex.EncodeToString(hasher.Sum(nil)), Host: r.o.Host, Time: r.o.Now().UTC()}
	if r.signer != nil {
		record.Signatures = []cache.Signature{{
			Key:       FormatKey(r.signer.Public().(ed25519.PublicKey)),
			Signature: base64.StdEncoding.EncodeToString(ed25519.Sign(r.signer, record.signedText(k))),
		}}
	}
	text, err := json.Marshal(record)
	if err != nil {
		return err
	}
	name := checkpointFolder(k) + record.Name
	err = r.o.Retry.do(ctx, func() error {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		return r.bucket.Put(ctx, name, f)
	})
	if err != nil {
		return err
	}
	if err := r.put(ctx, name+recordEnding, text); err != nil {
		return err
	}
	return r.trimCheckpoints(ctx, k)
}

// trimCheckpoints removes all but the last ones of a key, a record before its file.
func (r *Remote) trimCheckpoints(ctx context.Context, k cache.Key) error {
	names, err := r.checkpointNames(ctx, k)
	if err != nil || len(names) <= keptCheckpoints {
		return err
	}
	var records, files []string
	for _, name := range names[:len(names)-keptCheckpoints] {
		files, records = append(files, checkpointFolder(k)+name), append(records, checkpointFolder(k)+name+recordEnding)
	}
	if err := r.delete(ctx, records...); err != nil {
		return err
	}
	return r.delete(ctx, files...)
}

// checkpointNames lists those of a key that have a record, oldest first.
func (r *Remote) checkpointNames(ctx context.Context, k cache.Key) ([]string, error) {
	items, err := r.list(ctx, checkpointFolder(k))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, item := range items {
		if name, ok := strings.CutSuffix(strings.TrimPrefix(item.Name, checkpointFolder(k)), recordEnding); ok && name == filepath.Base(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// BringCheckpoint brings the newest checkpoint of a key into dir and returns its name; "" if there is none whose name sorts
// behind than. One that is damaged or that nobody trusted signed is passed over, and the error tells of it where no other is good.
func (r *Remote) BringCheckpoint(ctx context.Context, k cache.Key, dir, than string) (string, error) {
	names, err := r.checkpointNames(ctx, k)
	if err != nil {
		return "", r.wrap("look for checkpoints in", err)
	}
	var wrong []error
	for _, name := range slices.Backward(names) {
		if name <= than {
			break
		}
		err := r.bringCheckpoint(ctx, k, dir, name)
		if err == nil {
			return name, nil
		}
		if wrong = append(wrong, err); !errors.Is(err, cache.ErrDamaged) && !errors.Is(err, cache.ErrUntrusted) && !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if len(wrong) == 0 {
		return "", nil
	}
	return "", r.wrap("bring a checkpoint from", errors.Join(wrong...))
}

func (r *Remote) bringCheckpoint(ctx context.Context, k cache.Key, dir, name string) error {
	var record checkpointRecord
	_, err := r.read(ctx, checkpointFolder(k)+name+recordEnding, 0, -1, func(data []byte) error {
		record = checkpointRecord{}
		if err := json.Unmarshal(data, &record); err != nil {
			return err
		}
		if record.Version != 1 || record.Name != name || record.Size < 0 {
			return fmt.Errorf("it is of version %d, for %q with %d bytes", record.Version, record.Name, record.Size)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(r.o.Trust) > 0 {
		if err := trustedText(record.signedText(k), record.Signatures, r.o.Trust); err != nil {
			return fmt.Errorf("checkpoint %s of %s: %w", name, record.Host, err)
		}
	}
	return r.o.Retry.do(ctx, func() error { return r.saveCheckpoint(ctx, k, dir, &record) })
}

// saveCheckpoint writes the file beside its place and renames it when its bytes are right.
func (r *Remote) saveCheckpoint(ctx context.Context, k cache.Key, dir string, record *checkpointRecord) (err error) {
	name := checkpointFolder(k) + record.Name
	body, err := r.stream(ctx, name, 0, record.Size)
	if err != nil {
		return err
	}
	defer body.Close()
	f, err := os.CreateTemp(dir, "."+record.Name+".*")
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	hasher := blake3.New()
	n, err := io.Copy(io.MultiWriter(f, hasher), body)
	if err != nil {
		return err
	}
	if n != record.Size || hex.EncodeToString(hasher.Sum(nil)) != record.Hash {
		return r.fail(Damaged, "get", name, false, errors.New("its bytes are not those that were sent"))
	}
	if err = f.Sync(); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dir, record.Name))
}

// abandoned is after what time without a new checkpoint nobody will go on from the last one.
const abandoned = 30 * 24 * time.Hour

// checkpoints removes, or counts, those of stages that have a result, and those that nobody has added to for long.
func (g *collector) checkpoints(ctx context.Context, all []stored) error {
	items, err := g.r.list(ctx, checkpointPrefix)
	if err != nil {
		return err
	}
	finished := map[string]bool{}
	for _, s := range all {
		if s.result != nil {
			finished[s.key.String()] = true
		}
	}
	newest := map[string]time.Time{}
	key := func(item Item) string {
		k, _, _ := strings.Cut(strings.TrimPrefix(item.Name, checkpointPrefix), "/")
		return k
	}
	for _, item := range items {
		if item.Time.After(newest[key(item)]) {
			newest[key(item)] = item.Time
		}
	}
	var names []string
	for _, item := range items {
		if !finished[key(item)] && g.o.Now.Sub(newest[key(item)]) < max(abandoned, g.o.OlderThan) {
			continue
		}
		names = append(names, item.Name)
		g.report.Bytes += item.Size
		if !strings.HasSuffix(item.Name, recordEnding) {
			g.report.Checkpoints++
		}
	}
	if !g.o.Delete {
		return nil
	}
	return g.r.delete(ctx, names...)
}
