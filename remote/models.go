package remote

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"lpipe/cache"
)

// The registry of models: for each name an append-only log of what was registered and promoted, one object an entry. The
// files are content like any other, which gc keeps as long as the log names it.

// ModelEntry is an entry of a model's log.
type ModelEntry struct {
	Seq     int               `json:"seq"`               // from 1, without gaps
	Before  cache.ID          `json:"before"`            // the hash of the entry before; of the first: zeros
	Version int               `json:"version"`           // registered, or promoted
	Alias   string            `json:"alias,omitempty"`   // of a promotion: what stands for the version from now on
	From    int               `json:"from,omitempty"`    // of a promotion: the version that the alias stood for
	Content *cache.Content    `json:"content,omitempty"` // of a registration
	Stage   string            `json:"stage,omitempty"`
	Key     string            `json:"key,omitempty"` // of the result that it is an output of
	Tags    map[string]string `json:"tags,omitempty"`
	User    string            `json:"user,omitempty"`
	Host    string            `json:"host,omitempty"`
	Time    time.Time         `json:"time"`

	Signers []string `json:"-"`
	Problem error    `json:"-"` // why it does not count: no key that is trusted signed it
}

// modelHead is the first line of an entry. The second is its JSON, whose BLAKE3 hash the next entry names; signatures follow, a line each.
const modelHead = "lpipe model 1\n"

func modelName(name string, seq int) string { return fmt.Sprintf("models/%s/%08d", name, seq) }

// ModelNames lists the names in the registry.
func (r *Remote) ModelNames(ctx context.Context) ([]string, error) {
	items, err := r.list(ctx, "models/")
	if err != nil {
		return nil, r.wrap("list the models at", err)
	}
	var names []string
	for _, item := range items {
		if parts := strings.Split(item.Name, "/"); len(parts) == 3 {
			names = append(names, parts[1])
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// ModelLog reads the log of a name; of one that is not registered it is empty. A log with a gap, or one that was changed
// afterwards, is an error that is cache.ErrDamaged.
func (r *Remote) ModelLog(ctx context.Context, name string) ([]ModelEntry, error) {
	log, _, err := r.modelLog(ctx, name)
	if err != nil {
		return nil, r.wrap("read the log of model "+name+" at", err)
	}
	return log, nil
}

func (r *Remote) modelLog(ctx context.Context, name string) (log []ModelEntry, last cache.ID, err error) {
	items, err := r.list(ctx, "models/"+name+"/")
	if err != nil {
		return nil, last, err
	}
	log, texts := make([]ModelEntry, len(items)), make([][]byte, len(items))
	err = r.each(ctx, len(items), func(ctx context.Context, i int) error {
		if want := modelName(name, i+1); items[i].Name != want {
			return fmt.Errorf("%w: there is no %s, but %s", cache.ErrDamaged, want, items[i].Name)
		}
		_, err := r.read(ctx, items[i].Name, 0, -1, func(data []byte) (err error) {
			log[i], texts[i], err = parseModelEntry(data)
			return err
		})
		return err
	})
	if err != nil {
		return nil, last, err
	}
	for i := range log {
		if log[i].Seq != i+1 || log[i].Before != last {
			return nil, last, fmt.Errorf("%w: %s does not follow the entry before it", cache.ErrDamaged, items[i].Name)
		}
		last = cache.Sum(texts[i])
		log[i].Problem = r.trustedModel(&log[i], name, texts[i])
	}
	return log, last, nil
}

// parseModelEntry reads an entry; Signers holds its signature lines, to be checked.
func parseModelEntry(data []byte) (e ModelEntry, text []byte, err error) {
	rest, ok := bytes.CutPrefix(data, []byte(modelHead))
	if !ok {
		return e, nil, fmt.Errorf("an entry does not begin with %q", strings.TrimSpace(modelHead))
	}
	text, rest, whole := bytes.Cut(rest, []byte("\n"))
	if !whole {
		return e, nil, errors.New("an entry is cut")
	}
	if err := json.Unmarshal(text, &e); err != nil {
		return e, nil, fmt.Errorf("an entry is not JSON: %w", err)
	}
	for line := range strings.Lines(string(rest)) {
		e.Signers = append(e.Signers, strings.TrimSpace(line))
	}
	return e, text, nil
}

func signedModel(name string, text []byte) []byte {
	return fmt.Appendf(nil, "lpipe signed model 1\n%s\n%s\n", name, text)
}

// trustedModel is nil if one of the trusted keys signed an entry, or if all are trusted.
func (r *Remote) trustedModel(e *ModelEntry, name string, text []byte) error {
	lines := e.Signers
	e.Signers = nil
	signed := len(r.o.Trust) == 0
	for _, line := range lines {
		by, signature, _ := strings.Cut(line, " ")
		key, err := ParseKey(by)
		if err != nil {
			continue
		}
		e.Signers = append(e.Signers, by)
		raw, err := base64.StdEncoding.DecodeString(signature)
		trusted := slices.ContainsFunc(r.o.Trust, func(t ed25519.PublicKey) bool { return t.Equal(key) })
		signed = signed || err == nil && trusted && ed25519.Verify(key, signedModel(name, text), raw)
	}
	if !signed {
		return cache.ErrUntrusted
	}
	return nil
}

// AppendModel adds an entry to a log: next is handed the log and says what to add, nil for nothing. When somebody else
// was faster it is asked again.
func (r *Remote) AppendModel(ctx context.Context, name string, next func(log []ModelEntry) (*ModelEntry, error)) (*ModelEntry, error) {
	for {
		log, last, err := r.modelLog(ctx, name)
		if err != nil {
			return nil, r.wrap("read the log of model "+name+" at", err)
		}
		e, err := next(log)
		if err != nil || e == nil {
			return nil, err
		}
		e.Seq, e.Before, e.Time, e.Host = len(log)+1, last, r.o.Now().UTC().Truncate(time.Second), r.o.Host
		text, err := json.Marshal(e)
		if err != nil {
			return nil, fmt.Errorf("encode an entry: %w", err)
		}
		data := append(append([]byte(modelHead), text...), '\n')
		if r.signer != nil {
			signature := ed25519.Sign(r.signer, signedModel(name, text))
			data = fmt.Appendf(data, "%s %s\n", FormatKey(r.signer.Public().(ed25519.PublicKey)), base64.StdEncoding.EncodeToString(signature))
		}
		fresh, err := r.putModel(ctx, modelName(name, e.Seq), data)
		if err != nil {
			return nil, r.wrap("write the log of model "+name+" at", err)
		}
		if fresh {
			return e, nil
		}
	}
}

// putModel stores an entry if its place is free, or holds just this: an earlier try came through, and its answer did not.
func (r *Remote) putModel(ctx context.Context, name string, data []byte) (fresh bool, err error) {
	err = r.o.Retry.do(ctx, func() (err error) {
		fresh, err = r.bucket.PutNew(ctx, name, bytes.NewReader(data))
		return err
	})
	if err != nil || fresh {
		return fresh, err
	}
	there, err := r.read(ctx, name, 0, -1, nil)
	return bytes.Equal(there, data), err
}

// modelContents are the contents that the registry names: gc keeps them.
func (r *Remote) modelContents(ctx context.Context) ([]cache.Content, error) {
	names, err := r.ModelNames(ctx)
	if err != nil {
		return nil, err
	}
	var all []cache.Content
	for _, name := range names {
		log, _, err := r.modelLog(ctx, name)
		if err != nil {
			return nil, err
		}
		for _, e := range log {
			if e.Content != nil {
				all = append(all, *e.Content)
			}
		}
	}
	return all, nil
}
