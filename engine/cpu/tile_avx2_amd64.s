#include "textflag.h"
#include "go_asm.h"

// The tiles of tile_avx512_amd64.s in AVX2 with FMA.

// Up to 6 rows of 16 columns in Y0..Y11; B in Y12, Y13.

// Sixteen ones, sixteen zeros: eight values from 16-cols on are the mask of the first vector.
DATA colmask<>+0(SB)/8, $-1
DATA colmask<>+8(SB)/8, $-1
DATA colmask<>+16(SB)/8, $-1
DATA colmask<>+24(SB)/8, $-1
DATA colmask<>+32(SB)/8, $-1
DATA colmask<>+40(SB)/8, $-1
DATA colmask<>+48(SB)/8, $-1
DATA colmask<>+56(SB)/8, $-1
DATA colmask<>+64(SB)/8, $0
DATA colmask<>+72(SB)/8, $0
DATA colmask<>+80(SB)/8, $0
DATA colmask<>+88(SB)/8, $0
DATA colmask<>+96(SB)/8, $0
DATA colmask<>+104(SB)/8, $0
DATA colmask<>+112(SB)/8, $0
DATA colmask<>+120(SB)/8, $0
GLOBL colmask<>(SB), RODATA|NOPTR, $128

#define MASK2 \
	MOVQ tile_cols(AX), CX;       \
	NEGQ CX;                      \
	LEAQ colmask<>+64(SB), BX;    \
	VMOVUPS (BX)(CX*4), Y14;      \
	VMOVUPS 32(BX)(CX*4), Y15

#define LOAD256 \
	MOVQ t+0(FP), AX;       \
	MASK2;                  \
	VXORPS Y12, Y12, Y12;   \
	VXORPS Y13, Y13, Y13;   \
	MOVQ tile_bias(AX), BX; \
	TESTQ BX, BX;           \
	JZ 3(PC);               \
	VMASKMOVPS (BX), Y14, Y12; \
	VMASKMOVPS 32(BX), Y15, Y13; \
	MOVQ tile_a(AX), R8;    \
	MOVQ tile_rs(AX), R11;  \
	LEAQ (R8)(R11*2), R9;   \
	ADDQ R11, R9;           \
	MOVQ tile_cs(AX), R13;  \
	MOVQ tile_b(AX), SI;    \
	MOVQ tile_ldb(AX), DX;  \
	MOVQ tile_k(AX), CX;    \
	MOVQ tile_c(AX), DI

#define INIT3(a, b, c, d, e, f) \
	VMOVAPS Y12, a; VMOVAPS Y13, b; VMOVAPS Y12, c; VMOVAPS Y13, d; VMOVAPS Y12, e; VMOVAPS Y13, f

#define FMA3(base, a, b, c, d, e, f) \
	VBROADCASTSS (base), Y14;        \
	VBROADCASTSS (base)(R11*1), Y15; \
	VFMADD231PS Y12, Y14, a;         \
	VFMADD231PS Y13, Y14, b;         \
	VBROADCASTSS (base)(R11*2), Y14; \
	VFMADD231PS Y12, Y15, c;         \
	VFMADD231PS Y13, Y15, d;         \
	ADDQ R13, base;                  \
	VFMADD231PS Y12, Y14, e;         \
	VFMADD231PS Y13, Y14, f

#define B256 \
	VMOVUPS (SI), Y12;   \
	VMOVUPS 32(SI), Y13; \
	ADDQ DX, SI

#define STORE256 \
	MASK2;                  \
	MOVQ tile_ldc(AX), R8;  \
	MOVQ tile_skip(AX), R9; \
	CMPQ tile_add(AX), $0

#define PUT3(i, a, b) \
	CMPQ R9, $i;               \
	JGT 3(PC);                 \
	VMASKMOVPS a, Y14, (DI);   \
	VMASKMOVPS b, Y15, 32(DI); \
	ADDQ R8, DI

#define ADD3(i, a, b) \
	CMPQ R9, $i;                 \
	JGT 7(PC);                   \
	VMASKMOVPS (DI), Y14, Y12;   \
	VMASKMOVPS 32(DI), Y15, Y13; \
	VADDPS Y12, a, a;            \
	VADDPS Y13, b, b;            \
	VMASKMOVPS a, Y14, (DI);     \
	VMASKMOVPS b, Y15, 32(DI);   \
	ADDQ R8, DI

// func tile6x16(t *tile)
TEXT ·tile6x16(SB), NOSPLIT, $0-8
	LOAD256
	INIT3(Y0, Y1, Y2, Y3, Y4, Y5)
	INIT3(Y6, Y7, Y8, Y9, Y10, Y11)
	TESTQ CX, CX
	JZ store
	PCALIGN $32
loop:
	B256
	FMA3(R8, Y0, Y1, Y2, Y3, Y4, Y5)
	FMA3(R9, Y6, Y7, Y8, Y9, Y10, Y11)
	DECQ CX
	JNZ loop
store:
	STORE256
	JNE add
	PUT3(0, Y0, Y1)
	PUT3(1, Y2, Y3)
	PUT3(2, Y4, Y5)
	PUT3(3, Y6, Y7)
	PUT3(4, Y8, Y9)
	PUT3(5, Y10, Y11)
	VZEROUPPER
	RET
add:
	ADD3(0, Y0, Y1)
	ADD3(1, Y2, Y3)
	ADD3(2, Y4, Y5)
	ADD3(3, Y6, Y7)
	ADD3(4, Y8, Y9)
	ADD3(5, Y10, Y11)
	VZEROUPPER
	RET

// func tile3x16(t *tile)
TEXT ·tile3x16(SB), NOSPLIT, $0-8
	LOAD256
	INIT3(Y0, Y1, Y2, Y3, Y4, Y5)
	TESTQ CX, CX
	JZ store
	PCALIGN $32
loop:
	B256
	FMA3(R8, Y0, Y1, Y2, Y3, Y4, Y5)
	DECQ CX
	JNZ loop
store:
	STORE256
	JNE add
	PUT3(0, Y0, Y1)
	PUT3(1, Y2, Y3)
	PUT3(2, Y4, Y5)
	VZEROUPPER
	RET
add:
	ADD3(0, Y0, Y1)
	ADD3(1, Y2, Y3)
	ADD3(2, Y4, Y5)
	VZEROUPPER
	RET
