// Package dataset holds the formats that stages hand to each other and to the engine: rows of conversations
// (JSONL or Parquet), folders of tokenised sequences, and packs of sequences.
//
// Rows: row.go says what a row is, reader.go reads any usual file in batches that many goroutines decode,
// writer.go writes. Tokens: tokens.go reads a folder by memory map, tokenswriter.go makes one. pack.go puts
// sequences into packs. doc/format-data.md specifies the files byte by byte.
package dataset
