#include "vector_amd64.h"

// One vector against many rows that follow each other, d values each, d a multiple of 8: attention over a cache.

// func dotsAVX(out, q, rows *float32, n, d int)
// out[m] = q·rows[m] for n rows, four at once. From memory they come in one stream, five rows ahead: of four streams the processor
// fetches less, and with four rows the fourth's beginning would be late.
TEXT ·dotsAVX(SB), NOSPLIT, $0-40
	MOVQ out+0(FP), DI
	MOVQ q+8(FP), SI
	MOVQ rows+16(FP), DX
	MOVQ n+24(FP), CX
	MOVQ d+32(FP), R8
	SHLQ $2, R8
	LEAQ (R8)(R8*2), R9
	SUBQ $4, CX
	JLT few
four:
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3
	XORQ BX, BX
	LEAQ (R8)(R8*4), R13
	ADDQ DX, R13
fours:
	VMOVUPS (SI)(BX*1), Y8
	LEAQ (DX)(BX*1), R10
	PREFETCHT0 (R13)(BX*4)
	PREFETCHT0 64(R13)(BX*4)
	VFMADD231PS (R10), Y8, Y0
	VFMADD231PS (R10)(R8*1), Y8, Y1
	VFMADD231PS (R10)(R8*2), Y8, Y2
	VFMADD231PS (R10)(R9*1), Y8, Y3
	ADDQ $32, BX
	CMPQ BX, R8
	JLT fours
	VHADDPS Y1, Y0, Y0
	VHADDPS Y3, Y2, Y2
	VHADDPS Y2, Y0, Y0
	VEXTRACTF128 $1, Y0, X1
	VADDPS X1, X0, X0
	VMOVUPS X0, (DI)
	ADDQ $16, DI
	LEAQ (DX)(R8*4), DX
	SUBQ $4, CX
	JGE four
few:
	ADDQ $4, CX
	JZ done
one:
	VXORPS Y0, Y0, Y0
	XORQ BX, BX
ones:
	VMOVUPS (SI)(BX*1), Y8
	VFMADD231PS (DX)(BX*1), Y8, Y0
	ADDQ $32, BX
	CMPQ BX, R8
	JLT ones
	SUM(Y0, X0, X1)
	VMOVSS X0, (DI)
	ADDQ $4, DI
	ADDQ R8, DX
	DECQ CX
	JNZ one
done:
	VZEROUPPER
	RET

// func dotsHalfAVX(out, q *float32, rows *uint16, n, d int)
// dotsAVX with rows of bfloat16: the same sums.
TEXT ·dotsHalfAVX(SB), NOSPLIT, $0-40
	MOVQ out+0(FP), DI
	MOVQ q+8(FP), SI
	MOVQ rows+16(FP), DX
	MOVQ n+24(FP), CX
	MOVQ d+32(FP), R8
	SHLQ $1, R8
	LEAQ (R8)(R8*2), R9
	SUBQ $4, CX
	JLT few
four:
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3
	XORQ BX, BX
	LEAQ (R8)(R8*4), R13
	ADDQ DX, R13
fours:
	VMOVUPS (SI)(BX*2), Y8
	LEAQ (DX)(BX*1), R10
	PREFETCHT0 (R13)(BX*4)
	VPMOVZXWD (R10), Y4
	VPMOVZXWD (R10)(R8*1), Y5
	VPMOVZXWD (R10)(R8*2), Y6
	VPMOVZXWD (R10)(R9*1), Y7
	VPSLLD $16, Y4, Y4
	VPSLLD $16, Y5, Y5
	VPSLLD $16, Y6, Y6
	VPSLLD $16, Y7, Y7
	VFMADD231PS Y4, Y8, Y0
	VFMADD231PS Y5, Y8, Y1
	VFMADD231PS Y6, Y8, Y2
	VFMADD231PS Y7, Y8, Y3
	ADDQ $16, BX
	CMPQ BX, R8
	JLT fours
	VHADDPS Y1, Y0, Y0
	VHADDPS Y3, Y2, Y2
	VHADDPS Y2, Y0, Y0
	VEXTRACTF128 $1, Y0, X1
	VADDPS X1, X0, X0
	VMOVUPS X0, (DI)
	ADDQ $16, DI
	LEAQ (DX)(R8*4), DX
	SUBQ $4, CX
	JGE four
few:
	ADDQ $4, CX
	JZ done
one:
	VXORPS Y0, Y0, Y0
	XORQ BX, BX
ones:
	VMOVUPS (SI)(BX*2), Y8
	VPMOVZXWD (DX)(BX*1), Y4
	VPSLLD $16, Y4, Y4
	VFMADD231PS Y4, Y8, Y0
	ADDQ $16, BX
	CMPQ BX, R8
	JLT ones
	SUM(Y0, X0, X1)
	VMOVSS X0, (DI)
	ADDQ $4, DI
	ADDQ R8, DX
	DECQ CX
	JNZ one
done:
	VZEROUPPER
	RET

// func mixAVX(out, p, rows *float32, n, d int)
// out = Σ_m p[m]·rows[m] of n rows. Four sums take turns.
TEXT ·mixAVX(SB), NOSPLIT, $0-40
	MOVQ out+0(FP), DI
	MOVQ rows+16(FP), DX
	MOVQ d+32(FP), R8
	MOVQ R8, R11
	SHLQ $2, R8
	LEAQ (R8)(R8*2), R9
	SHRQ $3, R11
block:
	MOVQ p+8(FP), SI
	MOVQ DX, R10
	MOVQ n+24(FP), CX
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3
	SUBQ $4, CX
	JLT few
four:
	VBROADCASTSS (SI), Y4
	VBROADCASTSS 4(SI), Y5
	VBROADCASTSS 8(SI), Y6
	VBROADCASTSS 12(SI), Y7
	VFMADD231PS (R10), Y4, Y0
	VFMADD231PS (R10)(R8*1), Y5, Y1
	VFMADD231PS (R10)(R8*2), Y6, Y2
	VFMADD231PS (R10)(R9*1), Y7, Y3
	ADDQ $16, SI
	LEAQ (R10)(R8*4), R10
	SUBQ $4, CX
	JGE four
few:
	ADDQ $4, CX
	JZ store
one:
	VBROADCASTSS (SI), Y4
	VFMADD231PS (R10), Y4, Y0
	ADDQ $4, SI
	ADDQ R8, R10
	DECQ CX
	JNZ one
store:
	VADDPS Y1, Y0, Y0
	VADDPS Y3, Y2, Y2
	VADDPS Y2, Y0, Y0
	VMOVUPS Y0, (DI)
	ADDQ $32, DI
	ADDQ $32, DX
	DECQ R11
	JNZ block
	VZEROUPPER
	RET
