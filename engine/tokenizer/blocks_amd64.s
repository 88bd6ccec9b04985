#include "textflag.h"

// func classify512(masks *classMasks, s *byte, n int, table *byte)
TEXT ·classify512(SB), NOSPLIT, $0-32
	MOVQ masks+0(FP), DI
	MOVQ s+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ table+24(FP), R8
	VMOVDQU8 (R8), Z1
	VMOVDQU8 64(R8), Z2

	// A register for each bit of the table.
	MOVL $1, R9
	VPBROADCASTB R9, Z10
	MOVL $2, R9
	VPBROADCASTB R9, Z11
	MOVL $4, R9
	VPBROADCASTB R9, Z12
	MOVL $8, R9
	VPBROADCASTB R9, Z13
	MOVL $16, R9
	VPBROADCASTB R9, Z14
	MOVL $32, R9
	VPBROADCASTB R9, Z15
	MOVL $0xC0, R9
	VPBROADCASTB R9, Z16

block:
	VMOVDQU8 (SI), Z0
	VPMOVB2M Z0, K7         // not ASCII
	VPCMPUB $5, Z16, Z0, K6 // of these, what begins a character
	KANDNQ K7, K6, K5
	KMOVQ K6, 48(DI)
	KMOVQ K5, 56(DI)
	KNOTQ K7, K7
	VPERMI2B.Z Z2, Z1, K7, Z0
	VPTESTMB Z10, Z0, K1
	VPTESTMB Z11, Z0, K2
	VPTESTMB Z12, Z0, K3
	VPTESTMB Z13, Z0, K4
	VPTESTMB Z14, Z0, K5
	VPTESTMB Z15, Z0, K6
	KMOVQ K1, (DI)
	KMOVQ K2, 8(DI)
	KMOVQ K3, 16(DI)
	KMOVQ K4, 24(DI)
	KMOVQ K5, 32(DI)
	KMOVQ K6, 40(DI)
	ADDQ $64, DI
	ADDQ $64, SI
	DECQ CX
	JNZ  block
	VZEROUPPER
	RET

// func prepare(wanted *wantedPiece, n int, s *byte, bounds *uint32, lines *cacheLine, mask uint64, masks *[17][2]uint64)
//
// For each pretoken: its key of two words, the hash, and its cache line asked for.
TEXT ·prepare(SB), NOSPLIT, $0-56
	MOVQ wanted+0(FP), DI
	MOVQ n+8(FP), CX
	MOVQ s+16(FP), SI
	MOVQ bounds+24(FP), R8
	MOVQ lines+32(FP), R9
	MOVQ mask+40(FP), R10
	MOVQ masks+48(FP), R11
	MOVQ $0x9E3779B97F4A7C15, R12
	MOVQ $0xD1B54A32D192ED03, R13
	LEAQ (R8)(CX*4), R15

next:
	CMPQ R8, R15
	JGE  prepared
	MOVL (R8), BX           // where it begins
	ADDQ $4, R8
	MOVL (R8), DX
	SUBL BX, DX             // its size
	CMPL DX, $15
	JHI  long
	MOVL DX, R14
	SHLQ $4, R14
	SHLQ $56, DX
	MOVQ 8(SI)(BX*1), CX
	MOVQ (SI)(BX*1), AX
	ANDQ 8(R11)(R14*1), CX
	ANDQ (R11)(R14*1), AX   // lo
	ORQ  DX, CX             // hi

key:
	MOVQ AX, (DI)
	MOVQ CX, 8(DI)
	XORQ R12, AX
	XORQ R13, CX
	MULQ CX
	XORQ DX, AX
	MOVQ AX, 16(DI)
	ANDQ R10, AX
	SHLQ $6, AX
	PREFETCHT0 (R9)(AX*1)
	ADDQ $24, DI
	JMP  next

long:
	MOVL DX, R14
	MOVQ $16, CX
	SHLQ $56, CX
	ORQ  R14, CX            // hi
	MOVQ $256, AX
	CMPQ R14, AX
	CMOVQHI AX, R14
	ADDQ SI, BX             // its text
	ADDQ BX, R14
	SUBQ $8, R14            // its last word
	XORQ AX, AX             // the hash so far

word:
	CMPQ BX, R14
	JGE  last
	XORQ R12, AX
	MOVQ (BX), DX
	XORQ R13, DX
	MULQ DX
	XORQ DX, AX
	ADDQ $8, BX
	JMP  word

last:
	XORQ R12, AX
	MOVQ (R14), DX
	XORQ R13, DX
	MULQ DX
	XORQ DX, AX             // lo
	JMP  key

prepared:
	RET

// func emit(dst *int32, wanted *wantedPiece, n int, lines *cacheLine, mask uint64) (done, wrote int)
//
// Copies the ids of pretokens, up to the first one that has none in a slot of its own line.
TEXT ·emit(SB), NOSPLIT, $0-56
	MOVQ dst+0(FP), DI
	MOVQ wanted+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ lines+24(FP), R9
	MOVQ mask+32(FP), R10
	MOVQ DI, R15
	XORQ R14, R14

piece:
	CMPQ R14, CX
	JGE  emitted
	MOVQ (SI), AX
	MOVQ 8(SI), BX
	MOVQ 16(SI), R8
	ANDQ R10, R8
	SHLQ $6, R8
	ADDQ R9, R8
	LEAQ 32(R8), R11
	MOVQ (R8), R12
	MOVQ 8(R8), R13
	XORQ AX, R12
	XORQ BX, R13
	ORQ  R13, R12
	CMOVQNE R11, R8         // not the first slot: the second
	XORQ (R8), AX
	XORQ 8(R8), BX
	ORQ  BX, AX
	JNE  emitted
	MOVOU 16(R8), X0
	MOVL 16(R8), AX
	MOVL AX, BX
	SHRL $24, AX
	CMPL AX, $4             // more stand elsewhere
	JHI  emitted
	MOVOU X0, (DI)
	ANDL $0xFFFFFF, BX
	MOVL BX, (DI)
	LEAQ (DI)(AX*4), DI
	ADDQ $24, SI
	INCQ R14
	JMP  piece

emitted:
	MOVQ R14, done+40(FP)
	SUBQ R15, DI
	SHRQ $2, DI
	MOVQ DI, wrote+48(FP)
	RET
