#include "neon_arm64.h"

// One vector against many rows that follow each other, d values each, d a multiple of 8: attention over a cache.

// The sums of four rows, V0+V1 to V6+V7 in eight lanes each, to four values at R0: added as vector_rows_amd64.s does.
#define PUT4 \
	FPAIRS4(2, 0, 0);  \
	FPAIRS4(6, 4, 4);  \
	FPAIRS4(4, 0, 0);  \
	FPAIRS4(3, 1, 1);  \
	FPAIRS4(7, 5, 5);  \
	FPAIRS4(5, 1, 1);  \
	FADD4(1, 0, 0);    \
	FMOVQ.P F0, 16(R0)

#define ZERO8 ZERO4(0); ZERO4(1); ZERO4(2); ZERO4(3); ZERO4(4); ZERO4(5); ZERO4(6); ZERO4(7)

// func dotsNEON(out, q, rows *float32, n, d int)
// out[m] = q·rows[m] for n rows, a multiple of 4.
TEXT ·dotsNEON(SB), NOSPLIT, $0-40
	MOVD out+0(FP), R0
	MOVD rows+16(FP), R2
	MOVD n+24(FP), R9
	MOVD d+32(FP), R8
four:
	MOVD q+8(FP), R1
	ADD  R8<<2, R2, R3
	ADD  R8<<2, R3, R4
	ADD  R8<<2, R4, R5
	MOVD R8, R10
	ZERO8
loop:
	FLDPQ.P 32(R1), (F16, F17)
	FLDPQ.P 32(R2), (F18, F19)
	FLDPQ.P 32(R3), (F20, F21)
	FLDPQ.P 32(R4), (F22, F23)
	FLDPQ.P 32(R5), (F24, F25)
	FMLA4(18, 16, 0)
	FMLA4(19, 17, 1)
	FMLA4(20, 16, 2)
	FMLA4(21, 17, 3)
	FMLA4(22, 16, 4)
	FMLA4(23, 17, 5)
	FMLA4(24, 16, 6)
	FMLA4(25, 17, 7)
	SUBS $8, R10
	BNE  loop
	PUT4
	MOVD R5, R2
	SUBS $4, R9
	BNE  four
	RET

// func dotsHalfNEON(out, q *float32, rows *uint16, n, d int)
// dotsNEON with rows of bfloat16: the same sums.
TEXT ·dotsHalfNEON(SB), NOSPLIT, $0-40
	MOVD out+0(FP), R0
	MOVD rows+16(FP), R2
	MOVD n+24(FP), R9
	MOVD d+32(FP), R8
	ZERO4(31)
four:
	MOVD q+8(FP), R1
	ADD  R8<<1, R2, R3
	ADD  R8<<1, R3, R4
	ADD  R8<<1, R4, R5
	MOVD R8, R10
	ZERO8
loop:
	FLDPQ.P 32(R1), (F16, F17)
	FMOVQ.P 16(R2), F19
	FMOVQ.P 16(R3), F21
	FMOVQ.P 16(R4), F23
	FMOVQ.P 16(R5), F25
	WIDENLOW4(19, 31, 18)
	WIDENHIGH4(19, 31, 19)
	WIDENLOW4(21, 31, 20)
	WIDENHIGH4(21, 31, 21)
	WIDENLOW4(23, 31, 22)
	WIDENHIGH4(23, 31, 23)
	WIDENLOW4(25, 31, 24)
	WIDENHIGH4(25, 31, 25)
	FMLA4(18, 16, 0)
	FMLA4(19, 17, 1)
	FMLA4(20, 16, 2)
	FMLA4(21, 17, 3)
	FMLA4(22, 16, 4)
	FMLA4(23, 17, 5)
	FMLA4(24, 16, 6)
	FMLA4(25, 17, 7)
	SUBS $8, R10
	BNE  loop
	PUT4
	MOVD R5, R2
	SUBS $4, R9
	BNE  four
	RET

// func mixNEON(out, p, rows *float32, n, d int)
// out = Σ_m p[m]·rows[m] of n rows, eight columns at a time. Four sums take turns, V0+V1 to V6+V7; the last rows go to the first.
TEXT ·mixNEON(SB), NOSPLIT, $0-40
	MOVD out+0(FP), R0
	MOVD rows+16(FP), R2
	MOVD d+32(FP), R8
	MOVD R8, R11
	LSL  $2, R8
block:
	MOVD p+8(FP), R1
	MOVD n+24(FP), R9
	MOVD R2, R3
	ZERO8
	SUBS $4, R9
	BLT  few
four:
	FMOVQ.P 16(R1), F16
	FLDPQ (R3), (F18, F19)
	ADD  R8, R3
	FLDPQ (R3), (F20, F21)
	ADD  R8, R3
	FLDPQ (R3), (F22, F23)
	ADD  R8, R3
	FLDPQ (R3), (F24, F25)
	ADD  R8, R3
	VDUP V16.S[1], V26.S4
	VDUP V16.S[2], V27.S4
	VDUP V16.S[3], V28.S4
	FMLA1(16, 18, 0)
	FMLA1(16, 19, 1)
	FMLA4(20, 26, 2)
	FMLA4(21, 26, 3)
	FMLA4(22, 27, 4)
	FMLA4(23, 27, 5)
	FMLA4(24, 28, 6)
	FMLA4(25, 28, 7)
	SUBS $4, R9
	BGE  four
few:
	ADDS $4, R9
	BEQ  store
one:
	FMOVS.P 4(R1), F16
	FLDPQ (R3), (F18, F19)
	ADD  R8, R3
	FMLA1(16, 18, 0)
	FMLA1(16, 19, 1)
	SUBS $1, R9
	BNE  one
store:
	FADD4(2, 0, 0)
	FADD4(3, 1, 1)
	FADD4(6, 4, 4)
	FADD4(7, 5, 5)
	FADD4(4, 0, 0)
	FADD4(5, 1, 1)
	FSTPQ.P (F0, F1), 32(R0)
	ADD  $32, R2
	SUBS $8, R11
	BNE  block
	RET
