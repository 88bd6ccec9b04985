#include "go_asm.h"
#include "neon_arm64.h"

// The tiles of tile_avx2_amd64.s in NEON: up to 6 rows of 16 columns, all of which exist. A row is four registers: V0 to V3, V4 to
// V7 … V20 to V23. B is in V24 to V27, A in V28 to V31.

#define LOADTILE \
	MOVD t+0(FP), R0;       \
	MOVD tile_a(R0), R1;    \
	MOVD tile_rs(R0), R2;   \
	MOVD tile_cs(R0), R3;   \
	MOVD tile_b(R0), R4;    \
	MOVD tile_ldb(R0), R5;  \
	MOVD tile_k(R0), R6;    \
	MOVD tile_c(R0), R7;    \
	MOVD tile_ldc(R0), R8;  \
	MOVD tile_skip(R0), R9; \
	MOVD tile_add(R0), R10; \
	ADD R2, R2, R12;        \
	ADD R2, R12, R13;       \
	ADD R2, R13, R14;       \
	ADD R2, R14, R15;       \
	ZERO4(24);              \
	ZERO4(25);              \
	ZERO4(26);              \
	ZERO4(27);              \
	MOVD tile_bias(R0), R11; \
	CBZ R11, 3(PC);         \
	FLDPQ (R11), (F24, F25); \
	FLDPQ 32(R11), (F26, F27)

#define BEGIN(a, b, c, d) MOVE4(24, a); MOVE4(25, b); MOVE4(26, c); MOVE4(27, d)

// The next k: its row of B, and what three rows of A have there.
#define NEXT \
	FLDPQ (R4), (F24, F25);   \
	FLDPQ 32(R4), (F26, F27); \
	ADD R5, R4;               \
	FMOVS (R1), F28;          \
	FMOVS (R1)(R2), F29;      \
	FMOVS (R1)(R12), F30

#define ROW(x, a, b, c, d) FMLA1(x, 24, a); FMLA1(x, 25, b); FMLA1(x, 26, c); FMLA1(x, 27, d)

// ADDC adds a row of C, from which R11 goes on.
#define ADDC(a, b, c, d) \
	FLDPQ (R11), (F24, F25);   \
	FLDPQ 32(R11), (F26, F27); \
	ADD R8, R11;               \
	FADD4(24, a, a);           \
	FADD4(25, b, b);           \
	FADD4(26, c, c);           \
	FADD4(27, d, d)

// PUT stores row i, unless it is skipped.
#define PUT(i, a, b, c, d) \
	CMP $i, R9;            \
	BGT 3(PC);             \
	FSTPQ (a, b), (R7);    \
	FSTPQ (c, d), 32(R7);  \
	ADD R8, R7

// func tile6x16NEON(t *tile)
TEXT ·tile6x16NEON(SB), NOSPLIT, $0-8
	LOADTILE
	BEGIN(0, 1, 2, 3)
	BEGIN(4, 5, 6, 7)
	BEGIN(8, 9, 10, 11)
	BEGIN(12, 13, 14, 15)
	BEGIN(16, 17, 18, 19)
	BEGIN(20, 21, 22, 23)
	CBZ R6, sum
	PCALIGN $16
loop:
	NEXT
	FMOVS (R1)(R13), F31
	ROW(28, 0, 1, 2, 3)
	FMOVS (R1)(R14), F28
	ROW(29, 4, 5, 6, 7)
	FMOVS (R1)(R15), F29
	ADD R3, R1
	ROW(30, 8, 9, 10, 11)
	ROW(31, 12, 13, 14, 15)
	ROW(28, 16, 17, 18, 19)
	ROW(29, 20, 21, 22, 23)
	SUB $1, R6
	CBNZ R6, loop
sum:
	CBZ R10, store
	MOVD R7, R11
	ADDC(0, 1, 2, 3)
	ADDC(4, 5, 6, 7)
	ADDC(8, 9, 10, 11)
	ADDC(12, 13, 14, 15)
	ADDC(16, 17, 18, 19)
	ADDC(20, 21, 22, 23)
store:
	PUT(0, F0, F1, F2, F3)
	PUT(1, F4, F5, F6, F7)
	PUT(2, F8, F9, F10, F11)
	PUT(3, F12, F13, F14, F15)
	PUT(4, F16, F17, F18, F19)
	PUT(5, F20, F21, F22, F23)
	RET

// func tile3x16NEON(t *tile)
TEXT ·tile3x16NEON(SB), NOSPLIT, $0-8
	LOADTILE
	BEGIN(0, 1, 2, 3)
	BEGIN(4, 5, 6, 7)
	BEGIN(8, 9, 10, 11)
	CBZ R6, sum
	PCALIGN $16
loop:
	NEXT
	ADD R3, R1
	ROW(28, 0, 1, 2, 3)
	ROW(29, 4, 5, 6, 7)
	ROW(30, 8, 9, 10, 11)
	SUB $1, R6
	CBNZ R6, loop
sum:
	CBZ R10, store
	MOVD R7, R11
	ADDC(0, 1, 2, 3)
	ADDC(4, 5, 6, 7)
	ADDC(8, 9, 10, 11)
store:
	PUT(0, F0, F1, F2, F3)
	PUT(1, F4, F5, F6, F7)
	PUT(2, F8, F9, F10, F11)
	RET
