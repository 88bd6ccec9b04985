package remote

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"lpipe/cache"
)

// signedVector is a signature that doc/format.md promises to other programs.
type signedVector struct {
	Seed      string       `json:"seed"` // of the private key, hexadecimal
	Public    string       `json:"public"`
	Key       string       `json:"key"`
	Result    cache.Result `json:"result"`
	Text      string       `json:"text"`
	Signature string       `json:"signature"`
}

func TestSignedVector(t *testing.T) {
	seed := cache.Sum([]byte("lpipe test key"))
	private := ed25519.NewKeyFromSeed(seed[:])
	k := cache.SumKey("kind preprocess 1\n")
	log := cache.Content{ID: cache.Sum([]byte("log\n")), Size: 4, Files: 1}
	r := &cache.Result{
		Outputs: map[string]cache.Content{
			"data": {ID: cache.Sum([]byte("x")), Size: 1, Files: 1}, "a tool": {ID: cache.Sum([]byte("y")), Exec: true, Size: 1, Files: 1},
			"sets": {ID: cache.Sum([]byte("z")), Dir: true, Size: 30, Files: 3},
		},
		Description: "kind preprocess 1\n",
		Record:      cache.Record{Stage: "clean", Kind: "preprocess", User: "ann", Seconds: 1.5, Log: &log},
	}
	signed, err := sign(k, r, private)
	noError(t, err)
	text, err := SignedText(k, r)
	noError(t, err)
	got := signedVector{hex.EncodeToString(seed[:]), FormatKey(private.Public().(ed25519.PublicKey)), k.String(), *r, string(text), signed.Signatures[0].Signature}
	if *update {
		b, err := json.MarshalIndent(got, "", " ")
		noError(t, err)
		noError(t, os.WriteFile("testdata/signature.json", append(b, '\n'), 0o644))
	}
	b, err := os.ReadFile("testdata/signature.json")
	noError(t, err)
	var want signedVector
	noError(t, json.Unmarshal(b, &want))
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nnot\n%+v", got, want)
	}
}

// TestTrusted: any change to what a signature covers, to the signature, or to the list of trusted keys is noticed.
func TestTrusted(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	noError(t, err)
	other, stranger, err := ed25519.GenerateKey(nil)
	noError(t, err)
	k := cache.SumKey("one")
	r := &cache.Result{Outputs: map[string]cache.Content{"out": {ID: cache.Sum([]byte("x")), Size: 1, Files: 1}}, Record: cache.Record{Stage: "s"}}
	signed, err := sign(k, r, private)
	noError(t, err)
	both, err := sign(k, signed, stranger)
	noError(t, err)
	again, err := sign(k, both, private)
	noError(t, err)
	if len(again.Signatures) != 2 {
		t.Errorf("%d signatures", len(again.Signatures))
	}
	change := func(f func(r *cache.Result)) *cache.Result {
		c := *signed
		c.Outputs = map[string]cache.Content{"out": signed.Outputs["out"]}
		c.Signatures = append([]cache.Signature{}, signed.Signatures...)
		f(&c)
		return &c
	}
	for _, c := range []struct {
		name string
		k    cache.Key
		r    *cache.Result
		says string // "": it is trusted
	}{
		{"signed", k, signed, ""},
		{"by two", k, both, ""},
		{"unsigned", k, r, "unsigned"},
		{"another key", cache.SumKey("two"), signed, "a wrong signature by " + FormatKey(public)},
		{"another output", k, change(func(r *cache.Result) { r.Outputs["out"] = cache.Content{ID: cache.Sum([]byte("z")), Size: 1} }), "a wrong signature"},
		{"executable", k, change(func(r *cache.Result) { c := r.Outputs["out"]; c.Exec = true; r.Outputs["out"] = c }), "a wrong signature"},
		{"one output more", k, change(func(r *cache.Result) { r.Outputs["b"] = cache.Content{} }), "a wrong signature"},
		{"a line in a name", k, change(func(r *cache.Result) { r.Outputs["b\nc"] = cache.Content{} }), "line feed"},
		{"a log", k, change(func(r *cache.Result) { r.Record.Log = &cache.Content{Size: 1} }), "a wrong signature"},
		{"garbled", k, change(func(r *cache.Result) { r.Signatures[0].Signature = "?" }), "an unreadable signature"},
		{"renamed", k, change(func(r *cache.Result) { r.Signatures[0].Key = FormatKey(other) }), "signed by " + FormatKey(other)},
		{"who and when are not covered", k, change(func(r *cache.Result) { r.Record.User = "eve" }), ""},
	} {
		err := trusted(c.k, c.r, []ed25519.PublicKey{public})
		if c.says == "" && err != nil || c.says != "" && (!errors.Is(err, cache.ErrUntrusted) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestSignedReplacesUnsigned: a push of a signed result puts right what stands in its place, and one request says what
// there is.
func TestSignedReplacesUnsigned(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	noError(t, err)
	buckets(t, func(t *testing.T, b Bucket) {
		mine := newCache(t)
		content := folder(t, mine, 1, 10)
		key := result(t, mine, "a", content)
		planted, err := (&cache.Result{Outputs: map[string]cache.Content{"out": content}, Description: "a"}).Encode(key)
		noError(t, err)
		noError(t, b.Put(t.Context(), resultName(key), strings.NewReader(string(planted))))
		r := New(b, mine, Options{Retry: quick, Trust: []ed25519.PublicKey{public}})
		if _, err := r.Result(t.Context(), key); !errors.Is(err, cache.ErrUntrusted) {
			t.Errorf("planted: %v", err)
		}
		r.SignWith(private)
		_, err = r.Push(t.Context(), nil, []cache.Key{key}, nil)
		noError(t, err)
		before := r.Requests()
		if got, err := r.Result(t.Context(), key); err != nil || len(got.Signatures) != 1 || r.Requests() != before+1 {
			t.Errorf("signed: %v, %d requests", err, r.Requests()-before)
		}
	})
}

// TestSignedLater: who has a key signs what was pushed before there was one, or what a stranger put in its place, and not what came
// from others; what is signed costs a listing from then on.
func TestSignedLater(t *testing.T) {
	team, private, err := ed25519.GenerateKey(nil)
	noError(t, err)
	for name, trust := range map[string][]ed25519.PublicKey{"trust": {team}, "no trust": nil} {
		buckets(t, func(t *testing.T, b Bucket) {
			mine := newCache(t)
			content, other := folder(t, mine, 1, 10), folder(t, mine, 2, 10)
			one, two, came := result(t, mine, "a", content), result(t, mine, "b", content), result(t, mine, "c", content)
			theirs, err := mine.Result(came)
			noError(t, err)
			theirs.From = "elsewhere"
			noError(t, mine.PutResult(came, theirs))
			keys := []cache.Key{one, two, came}
			_, err = New(b, mine, Options{Retry: quick}).Push(t.Context(), nil, keys, nil)
			noError(t, err)

			push := func(news, signed, atMost int) {
				t.Helper()
				r := New(b, mine, Options{Retry: quick, Trust: trust})
				r.SignWith(private)
				_, send, err := r.News(t.Context(), nil, keys)
				noError(t, err)
				if len(send) != news || atMost > 0 && r.Requests() > atMost {
					t.Errorf("%s: %d are to be sent, %d requests", name, len(send), r.Requests())
				}
				if len(send) > 0 {
					stats, err := r.Push(t.Context(), nil, send, nil)
					noError(t, err)
					if stats.Signed != signed {
						t.Errorf("%s: %d were signed instead of %d", name, stats.Signed, signed)
					}
				}
				reader := New(b, newCache(t), Options{Retry: quick, Trust: []ed25519.PublicKey{team}})
				for i, k := range keys {
					got, err := reader.Result(t.Context(), k)
					if i < 2 && (err != nil || got.Outputs["out"] != content) || i == 2 && !errors.Is(err, cache.ErrUntrusted) {
						t.Errorf("%s: %d: %v, %v", name, i, got, err)
					}
				}
			}
			push(2, 2, 0) // the index names them, unsigned
			push(0, 0, 4) // both are looked at
			push(0, 0, 2) // and remembered

			planted, err := (&cache.Result{Outputs: map[string]cache.Content{"out": other}, Description: "a"}).Encode(one)
			noError(t, err)
			noError(t, b.Put(t.Context(), resultName(one), strings.NewReader(string(planted))))
			push(1, 1, 3)
			noError(t, b.Delete(t.Context(), resultName(two)))
			push(1, 0, 0) // as an index names it still
		})
	}
}

// TestSignaturesOfOthersStay: two people may sign one result; what a stranger says of other outputs goes.
func TestSignaturesOfOthersStay(t *testing.T) {
	_, ann, err := ed25519.GenerateKey(nil)
	noError(t, err)
	_, bob, err := ed25519.GenerateKey(nil)
	noError(t, err)
	b, mine := newMemory(), newCache(t)
	content := folder(t, mine, 1, 10)
	k := result(t, mine, "a", content)
	for _, key := range []ed25519.PrivateKey{ann, bob, ann} {
		r := New(b, mine, Options{Retry: quick})
		r.SignWith(key)
		_, err := r.Push(t.Context(), nil, []cache.Key{k}, nil)
		noError(t, err)
	}
	got, err := New(b, mine, Options{}).Result(t.Context(), k)
	noError(t, err)
	if len(got.Signatures) != 2 {
		t.Errorf("%d signatures", len(got.Signatures))
	}
	bad := *got
	bad.Outputs = map[string]cache.Content{"out": {ID: cache.Sum([]byte("x")), Size: 1, Files: 1}}
	if both := withSignatures(k, &cache.Result{Outputs: got.Outputs}, &bad); len(both.Signatures) != 2 {
		t.Error("signatures of the same text were dropped")
	}
	if both := withSignatures(k, &bad, &cache.Result{Signatures: got.Signatures[:1]}); len(both.Signatures) != 2 {
		t.Errorf("%d signatures of another text were kept", len(both.Signatures)-1)
	}
}

// TestTwoSignAtOnce: whose signature comes between the look and the put of another's keeps it, and of many at once all do.
func TestTwoSignAtOnce(t *testing.T) {
	buckets(t, func(t *testing.T, b Bucket) {
		mine := newCache(t)
		content := folder(t, mine, 1, 10)
		k := result(t, mine, "a", content)
		_, err := New(b, mine, Options{Retry: quick}).Push(t.Context(), nil, []cache.Key{k}, nil)
		noError(t, err)
		sign := func(b Bucket) error {
			_, key, err := ed25519.GenerateKey(nil)
			if err != nil {
				return err
			}
			r := New(b, mine, Options{Retry: quick})
			r.SignWith(key)
			stats, err := r.Push(t.Context(), nil, []cache.Key{k}, nil)
			if err == nil && stats.Signed != 1 {
				t.Errorf("%d were signed", stats.Signed)
			}
			return err
		}
		noError(t, sign(&preceded{Bucket: b, name: resultName(k), by: func() { noError(t, sign(b)) }}))
		var all errgroup.Group
		for range 4 {
			all.Go(func() error { return sign(b) })
		}
		noError(t, all.Wait())
		got, err := New(b, mine, Options{}).Result(t.Context(), k)
		noError(t, err)
		if len(got.Signatures) != 6 {
			t.Errorf("%d signatures of 6 are there", len(got.Signatures))
		}
	})
}

// preceded is a bucket in which something else happens before the first change of a name.
type preceded struct {
	Bucket
	name string
	by   func()
	once sync.Once
}

func (p *preceded) Put(ctx context.Context, name string, r io.ReadSeeker) error {
	p.before(name)
	return p.Bucket.Put(ctx, name, r)
}

func (p *preceded) Replace(ctx context.Context, name string, old []byte, r io.ReadSeeker) (bool, error) {
	p.before(name)
	return p.Bucket.Replace(ctx, name, old, r)
}

func (p *preceded) before(name string) {
	if name == p.name {
		p.once.Do(p.by)
	}
}

// TestSignedFile: what doc/format.md says of it.
func TestSignedFile(t *testing.T) {
	one, two := cache.SumKey("one"), cache.SumKey("two")
	known := map[cache.Key]stamp{one: {300, 1767323045000000007}, two: {200, 2}}
	lines := []string{one.String() + " 300 1767323045000000007\n", two.String() + " 200 2\n"}
	slices.Sort(lines)
	body := "keys\n" + lines[0] + lines[1]
	want := "lpipe signed 1 " + cache.Sum([]byte(body)).String() + "\n" + body
	if got := string(formatSigned(known, "keys")); got != want {
		t.Errorf("%s\nnot\n%s", got, want)
	}
	if got := parseSigned([]byte(want), "keys"); !maps.Equal(got, known) {
		t.Errorf("%v", got)
	}
	for i := range want {
		bad := []byte(want)
		bad[i] ^= 1
		if got := parseSigned(bad, "keys"); len(got) > 0 {
			t.Errorf("byte %d is wrong, and it says %v", i, got)
		}
	}
	if got := parseSigned([]byte(want), "others"); len(got) > 0 {
		t.Errorf("of other keys: %v", got)
	}
}
