package remote

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"lpipe/cache"
)

// Signed results: whoever may write to a bucket could plant a result, and everybody's repro would take its outputs. With
// Options.Trust a result counts only if one of these keys signed it. Content needs no signature: its name is its hash.

// keyPrefix starts a public key's text; base64 follows.
const keyPrefix = "ed25519:"

// FormatKey writes a public key as text.
func FormatKey(k ed25519.PublicKey) string {
	return keyPrefix + base64.StdEncoding.EncodeToString(k)
}

// ParseKey reads what FormatKey writes.
func ParseKey(text string) (ed25519.PublicKey, error) {
	rest, ok := strings.CutPrefix(text, keyPrefix)
	key, err := base64.StdEncoding.DecodeString(rest)
	if !ok || err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%q is no public key: it has the form %s and 44 characters of base64", text, keyPrefix)
	}
	return key, nil
}

// SignedText is what a signature covers: the key, and so the text whose hash it is, the outputs, and the log. Who made a
// result and when is not covered, and proves nothing.
//
//	lpipe signed result 1
//	key <hash>
//	output <hash> <file, exec or dir> <size> <files> <name>      for each output, sorted by name (bytes)
//	log <hash> <size>                                            if there is one
//
// Every line ends with a line feed. An output's name with a line feed in it cannot be signed.
func SignedText(k cache.Key, r *cache.Result) ([]byte, error) {
	b := fmt.Appendf(nil, "lpipe signed result 1\nkey %s\n", k)
	for _, name := range slices.Sorted(maps.Keys(r.Outputs)) {
		if strings.ContainsAny(name, "\n") {
			return nil, fmt.Errorf("sign result %s: output %q has a line feed in its name", k, name)
		}
		c, what := r.Outputs[name], "file"
		if c.Dir {
			what = "dir"
		} else if c.Exec {
			what = "exec"
		}
		b = fmt.Appendf(b, "output %s %s %d %d %s\n", c.ID, what, c.Size, c.Files, name)
	}
	if log := r.Record.Log; log != nil {
		b = fmt.Appendf(b, "log %s %d\n", log.ID, log.Size)
	}
	return b, nil
}

// sign adds a signature to a copy of a result, in place of an older one by the same key.
func sign(k cache.Key, r *cache.Result, by ed25519.PrivateKey) (*cache.Result, error) {
	text, err := SignedText(k, r)
	if err != nil {
		return nil, err
	}
	key := FormatKey(by.Public().(ed25519.PublicKey))
	signed := *r
	signed.Signatures = slices.DeleteFunc(slices.Clone(r.Signatures), func(s cache.Signature) bool { return s.Key == key })
	signed.Signatures = append(signed.Signatures, cache.Signature{
		Key: key, Signature: base64.StdEncoding.EncodeToString(ed25519.Sign(by, text)),
	})
	return &signed, nil
}

// trusted is nil if one of the trusted keys signed a result. Else the error says who did, and is cache.ErrUntrusted.
func trusted(k cache.Key, r *cache.Result, trust []ed25519.PublicKey) error {
	text, err := SignedText(k, r)
	if err != nil {
		return fmt.Errorf("%w: %w", cache.ErrUntrusted, err)
	}
	return trustedText(text, r.Signatures, trust)
}

// trustedText is trusted for any text and its signatures.
func trustedText(text []byte, signatures []cache.Signature, trust []ed25519.PublicKey) error {
	var others []string
	for _, s := range signatures {
		key, err := ParseKey(s.Key)
		signature, err2 := base64.StdEncoding.DecodeString(s.Signature)
		switch {
		case errors.Join(err, err2) != nil:
			others = append(others, fmt.Sprintf("an unreadable signature by %q", s.Key))
		case !slices.ContainsFunc(trust, func(t ed25519.PublicKey) bool { return bytes.Equal(t, key) }):
			others = append(others, "signed by "+s.Key)
		case !ed25519.Verify(key, text, signature):
			others = append(others, "a wrong signature by "+s.Key)
		default:
			return nil
		}
	}
	if len(others) == 0 {
		others = []string{"unsigned"}
	}
	return fmt.Errorf("%w: %s", cache.ErrUntrusted, strings.Join(others, ", "))
}
