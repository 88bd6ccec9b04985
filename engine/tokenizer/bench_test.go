package tokenizer

import (
	"os"
	"strings"
	"testing"
)

// benchText is a text of about 4 MB: LPIPE_BENCH_TEXT, or the shared word problems.
func benchText(b *testing.B) string {
	path := os.Getenv("LPIPE_BENCH_TEXT")
	if path == "" {
		path = shared(b, "data/gsm8k/train.jsonl")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	return string(data)
}

func BenchmarkLoad(b *testing.B) {
	dir := shared(b, "data/qwen2.5")
	for b.Loop() {
		if _, err := Load(dir); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEncodeCold begins each pass with an empty cache.
func BenchmarkEncodeCold(b *testing.B) {
	tok, text := qwen(b), benchText(b)
	ids := make([]int32, 0, len(text))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		tok.v.cache = newPieceCache()
		ids = tok.NewEncoder().Encode(ids[:0], text, false)
	}
}

// BenchmarkEncodeWarm encodes the same text again with one encoder.
func BenchmarkEncodeWarm(b *testing.B) {
	tok, text := qwen(b), benchText(b)
	e := tok.NewEncoder()
	ids := e.Encode(nil, text, false)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		ids = e.Encode(ids[:0], text, false)
	}
}

// BenchmarkEncodeLongPretoken has one pretoken of 1 MB.
func BenchmarkEncodeLongPretoken(b *testing.B) {
	tok, text := qwen(b), strings.Repeat("Donaudampfschiff", 1<<16)
	ids := make([]int32, 0, len(text))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		ids = tok.Encode(ids[:0], text, false)
	}
}

func BenchmarkDecode(b *testing.B) {
	tok, text := qwen(b), benchText(b)
	ids := tok.Encode(nil, text, false)
	out := make([]byte, 0, len(text))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		out = tok.Decode(out[:0], ids, false)
	}
}
