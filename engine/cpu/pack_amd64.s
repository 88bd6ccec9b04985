#include "textflag.h"

// Rows of a weight into a panel of 32 columns. What lies some rows ahead is fetched already: rows are far apart, which the
// processor does not see coming.

#define AHEAD 8

// func copyPanelAVX(dst, src *float32, n, stride int)
// n rows of 32 float32 values, stride values apart.
TEXT ·copyPanelAVX(SB), NOSPLIT, $0-32
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ stride+24(FP), R8
	SHLQ $2, R8
	LEAQ (SI)(R8*AHEAD), R9
copy:
	PREFETCHT0 (R9)
	PREFETCHT0 64(R9)
	VMOVUPS (SI), Y0
	VMOVUPS 32(SI), Y1
	VMOVUPS 64(SI), Y2
	VMOVUPS 96(SI), Y3
	VMOVUPS Y0, (DI)
	VMOVUPS Y1, 32(DI)
	VMOVUPS Y2, 64(DI)
	VMOVUPS Y3, 96(DI)
	ADDQ R8, SI
	ADDQ R8, R9
	ADDQ $128, DI
	DECQ CX
	JNZ copy
	VZEROUPPER
	RET

// func widenPanelAVX(dst *float32, src *uint16, n, stride int)
// n rows of 32 bfloat16 values, stride values apart.
TEXT ·widenPanelAVX(SB), NOSPLIT, $0-32
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ stride+24(FP), R8
	SHLQ $1, R8
	LEAQ (SI)(R8*AHEAD), R9
widen:
	PREFETCHT0 (R9)
	PREFETCHT0 63(R9)
	VPMOVZXWD (SI), Y0
	VPMOVZXWD 16(SI), Y1
	VPMOVZXWD 32(SI), Y2
	VPMOVZXWD 48(SI), Y3
	VPSLLD $16, Y0, Y0
	VPSLLD $16, Y1, Y1
	VPSLLD $16, Y2, Y2
	VPSLLD $16, Y3, Y3
	VMOVUPS Y0, (DI)
	VMOVUPS Y1, 32(DI)
	VMOVUPS Y2, 64(DI)
	VMOVUPS Y3, 96(DI)
	ADDQ R8, SI
	ADDQ R8, R9
	ADDQ $128, DI
	DECQ CX
	JNZ widen
	VZEROUPPER
	RET

// func gatherAVX(dst, src *float32, n, stride, tiles int)
// Tiles of 12 columns of n rows, stride values apart, each tile's rows one behind the other.
TEXT ·gatherAVX(SB), NOSPLIT, $0-40
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ stride+24(FP), R8
	MOVQ tiles+32(FP), R12
	SHLQ $2, R8
	LEAQ (CX)(CX*2), R13
	SHLQ $4, R13             // bytes of a tile: 12 values in each of n rows
	LEAQ (SI)(R8*AHEAD), R9
row:
	PREFETCHT0 (R9)
	PREFETCHT0 64(R9)
	PREFETCHT0 128(R9)
	MOVQ SI, R10
	MOVQ DI, R11
	MOVQ R12, BX
tile:
	VMOVUPS (R10), Y0
	VMOVUPS 32(R10), X1
	VMOVUPS Y0, (R11)
	VMOVUPS X1, 32(R11)
	ADDQ $48, R10
	ADDQ R13, R11
	DECQ BX
	JNZ tile
	ADDQ R8, SI
	ADDQ R8, R9
	ADDQ $48, DI
	DECQ CX
	JNZ row
	VZEROUPPER
	RET
