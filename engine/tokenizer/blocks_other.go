//go:build !amd64

package tokenizer

func classify(masks []classMasks, s []byte) int { return classifyPlain(masks, s) }
