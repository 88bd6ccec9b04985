#include "neon_arm64.h"

// Sums in eight lanes, and functions that move values. n is a multiple of 8. See vector_arm64.s.

// func sumSquaresNEON(sums *lanes, x *float32, n int)
TEXT ·sumSquaresNEON(SB), NOSPLIT, $0-24
	MOVD sums+0(FP), R0
	MOVD x+8(FP), R1
	MOVD n+16(FP), R9
	FLDPQ (R0), (F0, F1)
loop:
	FLDPQ.P 32(R1), (F2, F3)
	FMLA4(2, 2, 0)
	FMLA4(3, 3, 1)
	SUBS $8, R9
	BNE  loop
	FSTPQ (F0, F1), (R0)
	RET

// func dotNEON(sums *lanes, a, b *float32, n int)
TEXT ·dotNEON(SB), NOSPLIT, $0-32
	MOVD sums+0(FP), R0
	MOVD a+8(FP), R1
	MOVD b+16(FP), R2
	MOVD n+24(FP), R9
	FLDPQ (R0), (F0, F1)
loop:
	FLDPQ.P 32(R1), (F2, F3)
	FLDPQ.P 32(R2), (F4, F5)
	FMLA4(4, 2, 0)
	FMLA4(5, 3, 1)
	SUBS $8, R9
	BNE  loop
	FSTPQ (F0, F1), (R0)
	RET

// func dotHalfNEON(sums *lanes, a *float32, b *uint16, n int)
// b is bfloat16.
TEXT ·dotHalfNEON(SB), NOSPLIT, $0-32
	MOVD sums+0(FP), R0
	MOVD a+8(FP), R1
	MOVD b+16(FP), R2
	MOVD n+24(FP), R9
	FLDPQ (R0), (F0, F1)
	ZERO4(31)
loop:
	FLDPQ.P 32(R1), (F2, F3)
	FMOVQ.P 16(R2), F6
	WIDENLOW4(6, 31, 4)
	WIDENHIGH4(6, 31, 5)
	FMLA4(4, 2, 0)
	FMLA4(5, 3, 1)
	SUBS $8, R9
	BNE  loop
	FSTPQ (F0, F1), (R0)
	RET

// func dot3NEON(sums *lanes, a, b, c *float32, n int)
TEXT ·dot3NEON(SB), NOSPLIT, $0-40
	MOVD sums+0(FP), R0
	MOVD a+8(FP), R1
	MOVD b+16(FP), R2
	MOVD c+24(FP), R3
	MOVD n+32(FP), R9
	FLDPQ (R0), (F0, F1)
loop:
	FLDPQ.P 32(R1), (F2, F3)
	FLDPQ.P 32(R2), (F4, F5)
	FLDPQ.P 32(R3), (F6, F7)
	FMUL4(4, 2, 2)
	FMUL4(5, 3, 3)
	FMLA4(6, 2, 0)
	FMLA4(7, 3, 1)
	SUBS $8, R9
	BNE  loop
	FSTPQ (F0, F1), (R0)
	RET

// func maxNEON(most *lanes, x *float32, n int)
TEXT ·maxNEON(SB), NOSPLIT, $0-24
	MOVD most+0(FP), R0
	MOVD x+8(FP), R1
	MOVD n+16(FP), R9
	FLDPQ (R0), (F0, F1)
loop:
	FLDPQ.P 32(R1), (F2, F3)
	FMAX4(2, 0, 0)
	FMAX4(3, 1, 1)
	SUBS $8, R9
	BNE  loop
	FSTPQ (F0, F1), (R0)
	RET

// func widenNEON(dst *float32, src *uint16, n int)
// bfloat16 to float32.
TEXT ·widenNEON(SB), NOSPLIT, $0-24
	MOVD dst+0(FP), R0
	MOVD src+8(FP), R1
	MOVD n+16(FP), R9
	ZERO4(31)
loop:
	FMOVQ.P 16(R1), F2
	WIDENLOW4(2, 31, 0)
	WIDENHIGH4(2, 31, 1)
	FSTPQ.P (F0, F1), 32(R0)
	SUBS $8, R9
	BNE  loop
	RET

// func transposeNEON(dst, src *float32, n, stride, width int)
// Copies 4 rows of n values, stride values apart, to columns: dst[k*width+i] = src[i*stride+k].
TEXT ·transposeNEON(SB), NOSPLIT, $0-40
	MOVD dst+0(FP), R0
	MOVD src+8(FP), R1
	MOVD n+16(FP), R9
	MOVD stride+24(FP), R4
	MOVD width+32(FP), R5
	LSL  $2, R4
	LSL  $2, R5
	ADD  R4, R1, R2
	ADD  R4, R2, R3
	ADD  R4, R3, R4
loop:
	FMOVQ.P 16(R1), F0
	FMOVQ.P 16(R2), F1
	FMOVQ.P 16(R3), F2
	FMOVQ.P 16(R4), F3
	VTRN1 V1.S4, V0.S4, V4.S4
	VTRN2 V1.S4, V0.S4, V5.S4
	VTRN1 V3.S4, V2.S4, V6.S4
	VTRN2 V3.S4, V2.S4, V7.S4
	VTRN1 V6.D2, V4.D2, V0.D2
	VTRN1 V7.D2, V5.D2, V1.D2
	VTRN2 V6.D2, V4.D2, V2.D2
	VTRN2 V7.D2, V5.D2, V3.D2
	FMOVQ F0, (R0)
	ADD  R5, R0
	FMOVQ F1, (R0)
	ADD  R5, R0
	FMOVQ F2, (R0)
	ADD  R5, R0
	FMOVQ F3, (R0)
	ADD  R5, R0
	SUBS $4, R9
	BNE  loop
	RET
