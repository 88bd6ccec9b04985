// Package tokenizer turns text into Qwen2.5's token ids and back: byte-level
// BPE, chat template, loss mask, and a trainer for small vocabularies.
//
// A Tokenizer is what Load reads from a model folder (or Train makes); it is
// immutable and safe for concurrent use, and so is the bounded cache that it
// has. The work is done by an Encoder, which belongs to one goroutine;
// Tokenizer.Encode borrows one. The way of a text: added tokens are found in the
// raw text (only where asked for), what lies between is brought to NFC, cut into
// pretokens by a hand-written scanner that equals the split regex (scan.go,
// blocks.go), and each pretoken is looked up in the cache (cache.go) or merged
// (units.go, merge.go, mergetable.go).
//
// Text of users is encoded without recognising control tokens unless the caller
// says otherwise, so that "<|im_end|>" in a row cannot end a turn.
//
// Letter and number classes and NFC are those of UnicodeVersion, from tables of
// our own: Go's are older, and ids would differ. See doc/tokenizer.md.
package tokenizer
