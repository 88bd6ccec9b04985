#include "neon_arm64.h"

// Rounding to bfloat16: see round_amd64.s. n is a multiple of 4.

// V0 becomes its bfloat16 values as float32; V1 to V4 are taken.
#define ROUND \
	IRIGHT4(16, 0, 1);   \
	AND4(16, 1, 1);      \
	IADD4(17, 1, 1);     \
	IADD4(0, 1, 1);      \
	AND4(18, 1, 1);      \
	FSAME4(0, 0, 2);     \
	OR4(20, 0, 3);       \
	AND4(18, 3, 3);      \
	WHERENOT4(2, 3, 1);  \
	AND4(19, 0, 2);      \
	ISAME4(22, 2, 2);    \
	AND4(21, 0, 3);      \
	WHERE4(2, 3, 1);     \
	MOVE4(1, 0)

#define ROUNDCONSTANT(bits, i) \
	MOVW $bits, R10; \
	VDUP R10, i.S4

#define ROUNDCONSTANTS \
	ROUNDCONSTANT(1, V16);          \
	ROUNDCONSTANT(0x7fff, V17);     \
	ROUNDCONSTANT(0xffff0000, V18); \
	ROUNDCONSTANT(0x7f800000, V19); \
	ROUNDCONSTANT(0x400000, V20);   \
	ROUNDCONSTANT(0x80000000, V21); \
	ZERO4(22)

// func roundNEON(out, x *float32, n int)
TEXT ·roundNEON(SB), NOSPLIT, $0-24
	MOVD out+0(FP), R0
	MOVD x+8(FP), R1
	MOVD n+16(FP), R9
	ROUNDCONSTANTS
loop:
	FMOVQ.P 16(R1), F0
	ROUND
	FMOVQ.P F0, 16(R0)
	SUBS $4, R9
	BNE  loop
	RET

// func roundSwappedNEON(out, x *float32, n int)
// Neighbours are changed over.
TEXT ·roundSwappedNEON(SB), NOSPLIT, $0-24
	MOVD out+0(FP), R0
	MOVD x+8(FP), R1
	MOVD n+16(FP), R9
	ROUNDCONSTANTS
loop:
	FMOVQ.P 16(R1), F0
	ROUND
	SWAP4(0, 0)
	FMOVQ.P F0, 16(R0)
	SUBS $4, R9
	BNE  loop
	RET
