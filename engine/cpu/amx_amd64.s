#include "textflag.h"
#include "go_asm.h"
#include "amx_amd64.h"

// Blocks of C in tile registers: 0 to 3 hold sums (upper left, upper right, lower left, lower right), 4 and 5 the upper and lower rows of A,
// 6 and 7 the left and right columns of B. What each function calls is set up and given back within it: the registers are the thread's, and a
// goroutine that is in assembly is not taken off its thread.
//
// Registers by number: AX 0 the block, DX 2 distance of C's rows, BX 3 of B's, SI 6 and DI 7 the lower and upper rows of C, R8 and R9 the upper
// and lower rows of A, R10 the distance of A's rows, R11 B.

#define BEGIN \
	MOVQ b+0(FP), AX;          \
	LDTILECFG_AX;              \
	MOVQ blockCall_c(AX), DI;      \
	MOVQ blockCall_cLow(AX), SI;   \
	MOVQ blockCall_ldc(AX), DX;    \
	MOVQ blockCall_ldb(AX), BX;    \
	MOVQ blockCall_lda(AX), R10;   \
	MOVQ blockCall_ldbPart(AX), R12; \
	MOVQ blockCall_b(AX), R15;     \
	MOVQ blockCall_panels(AX), R13

#define PANEL \
	MOVQ blockCall_a(AX), R8;     \
	MOVQ blockCall_aLow(AX), R9;  \
	MOVQ R15, R11;            \
	MOVQ blockCall_parts(AX), CX

#define NEXT_PART \
	ADDQ $64, R8;  \
	ADDQ $64, R9;  \
	ADDQ R12, R11; \
	DECQ CX

#define NEXT_PANEL \
	ADDQ $128, DI;             \
	ADDQ $128, SI;             \
	ADDQ blockCall_next(AX), R15; \
	DECQ R13

// func block32x32(b *blockCall)
TEXT ·block32x32(SB), NOSPLIT, $0-8
	BEGIN
panel:
	PANEL
	TILELOADD(7, 2, 0, 0)
	TILELOADD(7, 2, 64, 1)
	TILELOADD(6, 2, 0, 2)
	TILELOADD(6, 2, 64, 3)
part:
	TILELOADD(8, 10, 0, 4)
	TILELOADD(11, 3, 0, 6)
	TDPBF16PS(6, 4, 0)
	TILELOADD(11, 3, 64, 7)
	TDPBF16PS(7, 4, 1)
	TILELOADD(9, 10, 0, 5)
	TDPBF16PS(6, 5, 2)
	TDPBF16PS(7, 5, 3)
	NEXT_PART
	JNZ part
	TILESTORED(0, 7, 2, 0)
	TILESTORED(1, 7, 2, 64)
	TILESTORED(2, 6, 2, 0)
	TILESTORED(3, 6, 2, 64)
	NEXT_PANEL
	JNZ panel
	TILERELEASE
	RET

// func block32x16(b *blockCall)
TEXT ·block32x16(SB), NOSPLIT, $0-8
	BEGIN
panel:
	PANEL
	TILELOADD(7, 2, 0, 0)
	TILELOADD(6, 2, 0, 2)
part:
	TILELOADD(8, 10, 0, 4)
	TILELOADD(11, 3, 0, 6)
	TDPBF16PS(6, 4, 0)
	TILELOADD(9, 10, 0, 5)
	TDPBF16PS(6, 5, 2)
	NEXT_PART
	JNZ part
	TILESTORED(0, 7, 2, 0)
	TILESTORED(2, 6, 2, 0)
	NEXT_PANEL
	JNZ panel
	TILERELEASE
	RET

// func block16x32(b *blockCall)
TEXT ·block16x32(SB), NOSPLIT, $0-8
	BEGIN
panel:
	PANEL
	TILELOADD(7, 2, 0, 0)
	TILELOADD(7, 2, 64, 1)
part:
	TILELOADD(8, 10, 0, 4)
	TILELOADD(11, 3, 0, 6)
	TDPBF16PS(6, 4, 0)
	TILELOADD(11, 3, 64, 7)
	TDPBF16PS(7, 4, 1)
	NEXT_PART
	JNZ part
	TILESTORED(0, 7, 2, 0)
	TILESTORED(1, 7, 2, 64)
	NEXT_PANEL
	JNZ panel
	TILERELEASE
	RET

// func block16x16(b *blockCall)
TEXT ·block16x16(SB), NOSPLIT, $0-8
	BEGIN
panel:
	PANEL
	TILELOADD(7, 2, 0, 0)
part:
	TILELOADD(8, 10, 0, 4)
	TILELOADD(11, 3, 0, 6)
	TDPBF16PS(6, 4, 0)
	NEXT_PART
	JNZ part
	TILESTORED(0, 7, 2, 0)
	NEXT_PANEL
	JNZ panel
	TILERELEASE
	RET

// func peakAMX(n int, config *tileConfig)
// Four products of whole tile registers, n times, of whatever zeros they hold.
TEXT ·peakAMX(SB), NOSPLIT, $0-16
	MOVQ n+0(FP), CX
	MOVQ config+8(FP), AX
	LDTILECFG_AX
more:
	TDPBF16PS(6, 4, 0)
	TDPBF16PS(7, 4, 1)
	TDPBF16PS(6, 5, 2)
	TDPBF16PS(7, 5, 3)
	DECQ CX
	JNZ more
	TILERELEASE
	RET
