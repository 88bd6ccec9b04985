//go:build !amd64

package tokenizer

func classify(masks []classMasks, s []byte) { classifyPlain(masks, s) }

func (t *cacheTable) prepare(wanted []wantedPiece, s []byte, bounds []uint32) {
	preparePlain(wanted, s, bounds)
}

func (t *cacheTable) emit(dst []int32, wanted []wantedPiece) ([]int32, int) {
	return t.emitPlain(dst, wanted)
}
