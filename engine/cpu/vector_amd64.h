// What the vector functions share.

#include "textflag.h"

// Eight ones, eight zeros: a load at 32-4n masks n lanes.
DATA lanes<>+0(SB)/8, $-1
DATA lanes<>+8(SB)/8, $-1
DATA lanes<>+16(SB)/8, $-1
DATA lanes<>+24(SB)/8, $-1
DATA lanes<>+32(SB)/8, $0
DATA lanes<>+40(SB)/8, $0
DATA lanes<>+48(SB)/8, $0
DATA lanes<>+56(SB)/8, $0
GLOBL lanes<>(SB), RODATA|NOPTR, $64

// TAIL: the mask of the CX values left, in Y15.
#define TAIL \
	LEAQ lanes<>+32(SB), R15; \
	NEGQ CX;                  \
	VMOVUPS (R15)(CX*4), Y15

// SUM: the eight values of y added in a fixed order, in x's lowest.
#define SUM(y, x, tmp) \
	VEXTRACTF128 $1, y, tmp; \
	VADDPS tmp, x, x;        \
	VHADDPS x, x, x;         \
	VHADDPS x, x, x
