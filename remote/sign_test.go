package remote

import (
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

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
