#include "neon_arm64.h"

// The functions that need exp. See vector_arm64.s.

#define CONSTANT(bits, f, i) \
	MOVW $bits, R10; \
	FMOVS R10, f;    \
	ALL4(i, i)

// EXPCONSTANTS sets V16 to V28 to the numbers of vector_exp_amd64.s: the bounds, log₂e, ln 2 in two parts, the polynomial of Cephes'
// expf, 1, and the bias of a float32's exponent.
#define EXPCONSTANTS \
	CONSTANT(0xc2aeac50, F16, 16); \
	CONSTANT(0x42b0c0a5, F17, 17); \
	CONSTANT(0x3fb8aa3b, F18, 18); \
	CONSTANT(0x3f318000, F19, 19); \
	CONSTANT(0xb95e8083, F20, 20); \
	CONSTANT(0x39506967, F21, 21); \
	CONSTANT(0x3ab743ce, F22, 22); \
	CONSTANT(0x3c088908, F23, 23); \
	CONSTANT(0x3d2aa9c1, F24, 24); \
	CONSTANT(0x3e2aaaaa, F25, 25); \
	CONSTANT(0x3f000000, F26, 26); \
	CONSTANT(0x3f800000, F27, 27); \
	CONSTANT(0x0000007f, F28, 28)

// EXP: x = exp(x), about one unit in the last place, clamped to the normal range; NaN stays NaN. k, p and q are taken.
#define EXP(x, k, p, q) \
	FMAX4(16, x, x);  \
	FMIN4(17, x, x);  \
	FMUL4(18, x, k);  \
	FROUND4(k, k);    \
	FMLS4(19, k, x);  \
	FMLS4(20, k, x);  \
	MOVE4(22, p);     \
	FMLA4(21, x, p);  \
	MOVE4(23, q);     \
	FMLA4(p, x, q);   \
	MOVE4(24, p);     \
	FMLA4(q, x, p);   \
	MOVE4(25, q);     \
	FMLA4(p, x, q);   \
	MOVE4(26, p);     \
	FMLA4(q, x, p);   \
	FTOI4(k, k);      \
	FMUL4(x, p, p);   \
	IADD4(28, k, k);  \
	MOVE4(x, q);      \
	FMLA4(p, x, q);   \
	ILEFT4(23, k, k); \
	FADD4(27, q, x);  \
	FMUL4(k, x, x)

// V0 = V0/(1+exp(-V0))·V1
#define SILU \
	FNEG4(0, 2);     \
	EXP(2, 5, 6, 7); \
	FADD4(27, 2, 2); \
	FDIV4(2, 0, 0);  \
	FMUL4(1, 0, 0)

// func siluNEON(h, gate, u *float32, n int)
TEXT ·siluNEON(SB), NOSPLIT, $0-32
	MOVD h+0(FP), R0
	MOVD gate+8(FP), R1
	MOVD u+16(FP), R2
	MOVD n+24(FP), R9
	EXPCONSTANTS
	SUBS $4, R9
	BLT  tail
loop:
	FMOVQ.P 16(R1), F0
	FMOVQ.P 16(R2), F1
	SILU
	FMOVQ.P F0, 16(R0)
	SUBS $4, R9
	BGE  loop
tail:
	ADDS $4, R9
	BEQ  done
one:
	FMOVS.P 4(R1), F0
	FMOVS.P 4(R2), F1
	SILU
	FMOVS.P F0, 4(R0)
	SUBS $1, R9
	BNE  one
done:
	RET

// dg in V1 and du in V2 from gate in V0, u in V1 and dh in V2.
#define SILUBACK \
	FNEG4(0, 3);      \
	EXP(3, 5, 6, 7);  \
	FADD4(27, 3, 3);  \
	FDIV4(3, 27, 3);  \
	FSUB4(3, 27, 5);  \
	MOVE4(27, 4);     \
	FMLA4(0, 5, 4);   \
	FMUL4(3, 2, 2);   \
	FMUL4(2, 1, 1);   \
	FMUL4(4, 1, 1);   \
	FMUL4(0, 2, 2)

// func siluBackNEON(dg, du, dh, gate, u *float32, n int)
TEXT ·siluBackNEON(SB), NOSPLIT, $0-48
	MOVD dg+0(FP), R0
	MOVD du+8(FP), R1
	MOVD dh+16(FP), R2
	MOVD gate+24(FP), R3
	MOVD u+32(FP), R4
	MOVD n+40(FP), R9
	EXPCONSTANTS
	SUBS $4, R9
	BLT  tail
loop:
	FMOVQ.P 16(R2), F2
	FMOVQ.P 16(R3), F0
	FMOVQ.P 16(R4), F1
	SILUBACK
	FMOVQ.P F1, 16(R0)
	FMOVQ.P F2, 16(R1)
	SUBS $4, R9
	BGE  loop
tail:
	ADDS $4, R9
	BEQ  done
one:
	FMOVS.P 4(R2), F2
	FMOVS.P 4(R3), F0
	FMOVS.P 4(R4), F1
	SILUBACK
	FMOVS.P F1, 4(R0)
	FMOVS.P F2, 4(R1)
	SUBS $1, R9
	BNE  one
done:
	RET

// func expNEON(sums *lanes, out, x *float32, n int, scale, shift float32)
// n is a multiple of 8.
TEXT ·expNEON(SB), NOSPLIT, $0-40
	MOVD sums+0(FP), R0
	MOVD out+8(FP), R1
	MOVD x+16(FP), R2
	MOVD n+24(FP), R9
	FMOVS scale+32(FP), F14
	FMOVS shift+36(FP), F15
	ALL4(14, 14)
	ALL4(15, 15)
	FNEG4(15, 15)
	EXPCONSTANTS
	FLDPQ (R0), (F0, F1)
loop:
	FLDPQ.P 32(R2), (F4, F5)
	MOVE4(15, 2)
	MOVE4(15, 3)
	FMLA4(14, 4, 2)
	FMLA4(14, 5, 3)
	EXP(2, 4, 5, 6)
	EXP(3, 7, 8, 9)
	FSTPQ.P (F2, F3), 32(R1)
	FADD4(2, 0, 0)
	FADD4(3, 1, 1)
	SUBS $8, R9
	BNE  loop
	FSTPQ (F0, F1), (R0)
	RET
