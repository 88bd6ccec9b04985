package remote

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"lpipe/cache"
)

// What was pushed before there was a key, or by somebody without one, or what somebody put in the place of a signed result: a push
// that signs puts its own there. So that it need not read each result every time, it remembers which it found signed, and by a
// listing sees whether they are still those.

// vouched is nil for a result that the signer, or somebody whose results count, has signed.
func (r *Remote) vouched(k cache.Key, result *cache.Result) error {
	own := r.signer.Public().(ed25519.PublicKey)
	return trusted(k, result, append(slices.Clip(r.o.Trust), own))
}

// unvouched gives those of the keys, which the bucket has, whose results stand there without such a signature although they were
// made here. Of others the signer knows nothing.
func (r *Remote) unvouched(ctx context.Context, keys []cache.Key) ([]cache.Key, error) {
	if r.signer == nil {
		return nil, nil
	}
	var mine []cache.Key
	for _, k := range keys {
		result, err := r.cache.Result(k)
		if err != nil && !errors.Is(err, cache.ErrNotFound) {
			return nil, err
		}
		if err == nil && result.From == "" {
			mine = append(mine, k)
		}
	}
	if len(mine) == 0 {
		return nil, nil
	}
	items, err := r.list(ctx, "results/")
	if err != nil {
		return nil, err
	}
	now := map[cache.Key]stamp{}
	for _, item := range items {
		if id, ok := parseName("results", item.Name); ok {
			now[cache.Key(id)] = stamp{item.Size, item.Time.UnixNano()}
		}
	}
	known := r.readSigned()
	was := len(known)
	for k, s := range known {
		if now[k] != s {
			delete(known, k)
		}
	}
	changed := len(known) < was
	mine = slices.DeleteFunc(mine, func(k cache.Key) bool { _, ok := known[k]; return ok })
	var mu sync.Mutex
	var unsigned []cache.Key
	err = r.each(ctx, len(mine), func(ctx context.Context, i int) error {
		k := mine[i]
		result, err := r.anyResult(ctx, k)
		if err != nil && !errors.Is(err, cache.ErrNotFound) && !errors.Is(err, cache.ErrDamaged) {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if err != nil || r.vouched(k, result) != nil {
			unsigned = append(unsigned, k)
		} else if s, listed := now[k]; listed {
			known[k], changed = s, true
		}
		return nil
	})
	if err == nil && changed {
		r.keepSigned(known)
	}
	return unsigned, err
}

// stamp tells a file in a bucket from another that took its name.
type stamp struct{ size, time int64 }

// signedMagic starts the file of results that were found signed; the digit is the version. The rest of its first line is the BLAKE3
// hash of all lines after it.
const (
	signedMagic = "lpipe signed 1 "
	signedName  = "signed"
)

// signers is a hash of the keys whose signatures count for vouched: with others all must be looked at again.
func (r *Remote) signers() string {
	keys := []string{FormatKey(r.signer.Public().(ed25519.PublicKey))}
	for _, k := range r.o.Trust {
		keys = append(keys, FormatKey(k))
	}
	slices.Sort(keys)
	return cache.Sum([]byte(strings.Join(keys, "\n"))).String()
}

// readSigned reads what keepSigned wrote for the same keys. Where it is not whole, nothing is known.
func (r *Remote) readSigned() map[cache.Key]stamp {
	data, err := os.ReadFile(filepath.Join(r.o.Indexes, signedName))
	if err != nil {
		return map[cache.Key]stamp{}
	}
	return parseSigned(data, r.signers())
}

func parseSigned(data []byte, signers string) map[cache.Key]stamp {
	known := map[cache.Key]stamp{}
	head, body, _ := bytes.Cut(data, []byte("\n"))
	first, lines, _ := strings.Cut(string(body), "\n")
	if string(head) != signedMagic+cache.Sum(body).String() || first != signers {
		return known
	}
	for line := range strings.Lines(lines) {
		field := strings.Fields(line)
		if len(field) != 3 {
			return map[cache.Key]stamp{}
		}
		id, err := cache.ParseID(field[0])
		size, err2 := strconv.ParseInt(field[1], 10, 64)
		time, err3 := strconv.ParseInt(field[2], 10, 64)
		if errors.Join(err, err2, err3) != nil {
			return map[cache.Key]stamp{}
		}
		known[cache.Key(id)] = stamp{size, time}
	}
	return known
}

func formatSigned(known map[cache.Key]stamp, signers string) []byte {
	body := []byte(signers + "\n")
	for _, k := range sortedKeys(known) {
		body = fmt.Appendf(body, "%s %d %d\n", k, known[k].size, known[k].time)
	}
	return append([]byte(signedMagic+cache.Sum(body).String()+"\n"), body...)
}

func sortedKeys(known map[cache.Key]stamp) []cache.Key {
	keys := make([]cache.Key, 0, len(known))
	for k := range known {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b cache.Key) int { return cmp.Compare(string(a[:]), string(b[:])) })
	return keys
}

// keepSigned saves requests next time; it is checked when read.
func (r *Remote) keepSigned(known map[cache.Key]stamp) {
	keep(filepath.Join(r.o.Indexes, signedName), formatSigned(known, r.signers()))
}

// settleTries is how often somebody else may be quicker before a push gives up on a result.
const settleTries = 20

// settle is for a result in whose place one stands already. Theirs stays, as two results of one key are interchangeable, unless
// nobody uses it or we sign and it has no signature that counts. What others put there meanwhile is looked at again, so that
// of several who sign at once none loses a signature.
func (p *pusher) settle(ctx context.Context, k cache.Key, ours *cache.Result, made bool) error {
	for range settleTries {
		theirs, old, err := p.r.resultBytes(ctx, k)
		next, signed := ours, false
		switch {
		case errors.Is(err, cache.ErrDamaged), errors.Is(err, cache.ErrNotFound):
		case err != nil:
			return err
		case p.r.signer != nil && made:
			if p.r.vouched(k, theirs) == nil {
				return nil
			}
			next, signed = withSignatures(k, ours, theirs), true
		case len(p.r.o.Trust) == 0 || trusted(k, theirs, p.r.o.Trust) == nil:
			return nil
		}
		done, err := p.r.replaceResult(ctx, k, old, next)
		if done && signed {
			p.mu.Lock()
			p.stats.Signed++
			p.mu.Unlock()
		}
		if done || err != nil {
			return err
		}
	}
	return fmt.Errorf("result %s: others replaced it each of %d times that it was to be signed; push again", k, settleTries)
}

// replaceResult puts a result where these bytes stand, nil: where nothing does. It reports false where that is so no more.
func (r *Remote) replaceResult(ctx context.Context, k cache.Key, old []byte, result *cache.Result) (done bool, err error) {
	data, err := result.Encode(k)
	if err != nil {
		return false, err
	}
	err = r.o.Retry.do(ctx, func() (err error) {
		if old == nil {
			done, err = r.bucket.PutNew(ctx, resultName(k), bytes.NewReader(data))
		} else {
			done, err = r.bucket.Replace(ctx, resultName(k), old, bytes.NewReader(data))
		}
		return err
	})
	return done, err
}

// withSignatures adds those of theirs, if they say the same, that are what they should be.
func withSignatures(k cache.Key, ours, theirs *cache.Result) *cache.Result {
	text, err := SignedText(k, ours)
	if err != nil {
		return ours
	}
	both := *ours
	both.Signatures = slices.Clone(ours.Signatures)
	for _, s := range theirs.Signatures {
		key, err := ParseKey(s.Key)
		if err == nil && trustedText(text, []cache.Signature{s}, []ed25519.PublicKey{key}) == nil {
			both.Signatures = append(both.Signatures, s)
		}
	}
	return &both
}
