//go:build !amd64

package tokenizer

func (t *classTables) classify(masks []classMasks, s []byte) { t.classifyPlain(masks, s) }

func (t *classTables) settled(s []byte) int { return settledPlain(s) }

func (t *cacheTable) prepare(wanted []wantedPiece, s []byte, bounds []uint32) {
	preparePlain(wanted, s, bounds)
}

func (t *cacheTable) emit(dst []int32, wanted []wantedPiece) ([]int32, int) {
	return t.emitPlain(dst, wanted)
}

func appendPositions(dst []uint32, masks []uint64, from uint32) []uint32 {
	return positionsPlain(dst, masks, from)
}
