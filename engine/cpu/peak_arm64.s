#include "neon_arm64.h"

// What the processor does at most: see peak_amd64.s.

#define FMLA8(first) \
	FMLA4(30, 31, first+0); FMLA4(30, 31, first+1); FMLA4(30, 31, first+2); FMLA4(30, 31, first+3); \
	FMLA4(30, 31, first+4); FMLA4(30, 31, first+5); FMLA4(30, 31, first+6); FMLA4(30, 31, first+7)

// func fmaNEON(n int)
// 24 products of 4 lanes, n times.
TEXT ·fmaNEON(SB), NOSPLIT, $0-8
	MOVD n+0(FP), R9
	ZERO4(30)
	ZERO4(31)
	PCALIGN $16
loop:
	FMLA8(0)
	FMLA8(8)
	FMLA8(16)
	SUBS $1, R9
	BNE  loop
	RET

// func readNEON(x *float32, n int)
// Loads n values, a multiple of 32, and does nothing with them.
TEXT ·readNEON(SB), NOSPLIT, $0-16
	MOVD x+0(FP), R0
	MOVD n+8(FP), R9
read:
	FLDPQ.P 32(R0), (F0, F1)
	FLDPQ.P 32(R0), (F2, F3)
	FLDPQ.P 32(R0), (F4, F5)
	FLDPQ.P 32(R0), (F6, F7)
	SUBS $32, R9
	BNE  read
	RET
