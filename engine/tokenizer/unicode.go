package tokenizer

// Properties of a code point: its class, and whether NFC must look closer.
const (
	classOther  = 0
	classLetter = 1
	classNumber = 2
	classSpace  = 3
	classMask   = 3

	propMark  = 4 // canonical combining class is not 0
	propMaybe = 8 // NFC_Quick_Check is not Yes
)

type combiningRange struct {
	lo, hi int32
	class  uint8
}

type composite struct {
	pair uint64
	to   int32
}

// property looks a code point up; r must be at most 0x10FFFF.
func property(r int32) uint8 {
	return propBlocks[int(propIndex[r>>8])<<8|int(r&255)]
}
