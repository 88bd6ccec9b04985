#include "textflag.h"

// func prepare(wanted *wantedPiece, n int, s *byte, bounds *uint32, lines *cacheLine, offset uint64, masks *[shortMax + 1][4]uint64)
//
// For each pretoken: its key of two words, the hash, and its cache line asked for.
TEXT ·prepare(SB), NOSPLIT, $0-56
	MOVQ wanted+0(FP), DI
	MOVQ n+8(FP), CX
	MOVQ s+16(FP), SI
	MOVQ bounds+24(FP), R8
	MOVQ lines+32(FP), R9
	MOVQ offset+40(FP), R10
	MOVQ masks+48(FP), R11
	MOVQ $0x9E3779B97F4A7C15, R12
	MOVQ $0xD1B54A32D192ED03, R13
	LEAQ (R8)(CX*4), R15
	MOVL (R8), R14          // where it begins

next:
	MOVL R14, BX
	MOVL 4(R8), R14         // where it ends
	MOVL R14, DX
	SUBL BX, DX             // its size
	CMPL DX, $15
	JHI  long
	SHLL $5, DX
	MOVQ (SI)(BX*1), AX
	MOVQ 8(SI)(BX*1), CX
	ANDQ (R11)(DX*1), AX    // lo
	ANDQ 8(R11)(DX*1), CX
	ORQ  16(R11)(DX*1), CX  // hi

key:
	MOVQ AX, (DI)
	MOVQ CX, 8(DI)
	XORQ R12, AX
	XORQ R13, CX
	MULQ CX
	XORQ DX, AX
	MOVQ AX, 16(DI)
	ANDQ R10, AX
	PREFETCHT0 (R9)(AX*1)
	ADDQ $24, DI
	ADDQ $4, R8
	CMPQ R8, R15
	JLT  next
	RET

long:
	MOVQ $16, CX
	SHLQ $56, CX
	ORQ  DX, CX             // hi
	MOVQ $256, AX
	CMPQ DX, AX
	CMOVQLS DX, AX
	ADDQ SI, BX             // its text
	LEAQ -8(BX)(AX*1), DX
	MOVQ DX, 16(DI)         // its last word
	XORQ AX, AX             // the hash so far

word:
	CMPQ BX, 16(DI)
	JGE  last
	XORQ R12, AX
	MOVQ (BX), DX
	XORQ R13, DX
	MULQ DX
	XORQ DX, AX
	ADDQ $8, BX
	JMP  word

last:
	MOVQ 16(DI), DX
	XORQ R12, AX
	MOVQ (DX), DX
	XORQ R13, DX
	MULQ DX
	XORQ DX, AX             // lo
	JMP  key

// Four ids without the number in the upper byte of the first.
DATA ids<>+0(SB)/8, $0xFFFFFFFF00FFFFFF
DATA ids<>+8(SB)/8, $0xFFFFFFFFFFFFFFFF
GLOBL ids<>(SB), RODATA|NOPTR, $16

// func emit(dst *int32, wanted *wantedPiece, n int, lines *cacheLine, offset uint64) (done, wrote int)
//
// Copies the ids of pretokens, up to the first one that has none in a slot of its own line. Nearly all are in the first slot.
TEXT ·emit(SB), NOSPLIT, $0-56
	MOVQ dst+0(FP), DI
	MOVQ wanted+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ lines+24(FP), R9
	MOVQ offset+32(FP), R10
	MOVQ DI, R15
	LEAQ (CX)(CX*2), CX
	LEAQ (SI)(CX*8), CX
	MOVQ SI, R14
	MOVOU ids<>(SB), X1

piece:
	MOVQ (SI), AX
	MOVQ 8(SI), BX
	MOVQ 16(SI), R8
	ANDQ R10, R8
	XORQ (R9)(R8*1), AX
	XORQ 8(R9)(R8*1), BX
	ORQ  AX, BX
	JNE  second
	MOVOU 16(R9)(R8*1), X0
	MOVL 16(R9)(R8*1), DX

found:
	SHRL $24, DX
	PAND X1, X0
	MOVOU X0, (DI)
	LEAQ (DI)(DX*4), DI
	ADDQ $24, SI
	CMPQ SI, CX
	JLT  piece
	JMP  emitted

second:
	MOVQ (SI), AX
	MOVQ 8(SI), BX
	XORQ 32(R9)(R8*1), AX
	XORQ 40(R9)(R8*1), BX
	MOVOU 48(R9)(R8*1), X0
	MOVL 48(R9)(R8*1), DX
	ORQ  AX, BX
	JEQ  found

emitted:
	SUBQ R14, SI            // 24 bytes each
	SHRQ $3, SI
	MOVQ $0xAAAAAAAAAAAAAAAB, AX
	IMULQ AX, SI
	MOVQ SI, done+40(FP)
	SUBQ R15, DI
	SHRQ $2, DI
	MOVQ DI, wrote+48(FP)
	RET
