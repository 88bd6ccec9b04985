// The six tiles of AVX-512: up to 12 rows of 32 columns in Z0..Z23; B in Z24, Z25. Who includes this names them, TILE12X32 to
// TILE4X16, and says what one row of B adds to four rows of sums: ROWS2(base, first, sums) with both of its vectors, ROWS1 with Z24
// alone. The sums are the registers from number first on.

#define LOAD512 \
	MOVQ t+0(FP), AX;       \
	MOVQ tile_cols(AX), CX; \
	MOVQ $1, BX;            \
	SHLQ CX, BX;            \
	DECQ BX;                \
	KMOVW BX, K1;           \
	SHRQ $16, BX;           \
	KMOVW BX, K2;           \
	VPXORD Z24, Z24, Z24;   \
	VPXORD Z25, Z25, Z25;   \
	MOVQ tile_bias(AX), BX; \
	TESTQ BX, BX;           \
	JZ 3(PC);               \
	VMOVUPS.Z (BX), K1, Z24; \
	VMOVUPS.Z 64(BX), K2, Z25; \
	MOVQ tile_a(AX), R8;    \
	MOVQ tile_rs(AX), R11;  \
	LEAQ (R11)(R11*2), R12; \
	LEAQ (R8)(R11*4), R9;   \
	LEAQ (R9)(R11*4), R10;  \
	MOVQ tile_cs(AX), R13;  \
	MOVQ tile_b(AX), SI;    \
	MOVQ tile_ldb(AX), DX;  \
	MOVQ tile_k(AX), CX;    \
	MOVQ tile_c(AX), DI

// What is added to is fetched while the sums are made: it may lie far away, and a tile would wait for it at its end.
#define NEAR2 \
	PREFETCHT0 (BX);   \
	PREFETCHT0 64(BX); \
	ADDQ R15, BX

#define FETCH4 NEAR2; NEAR2; NEAR2; NEAR2

#define INIT2(a, b, c, d, e, f, g, h) \
	VMOVAPS Z24, a; VMOVAPS Z25, b; VMOVAPS Z24, c; VMOVAPS Z25, d; \
	VMOVAPS Z24, e; VMOVAPS Z25, f; VMOVAPS Z24, g; VMOVAPS Z25, h

#define INIT1(a, b, c, d) \
	VMOVAPS Z24, a; VMOVAPS Z24, b; VMOVAPS Z24, c; VMOVAPS Z24, d

#define B2 \
	VMOVUPS (SI), Z24;   \
	VMOVUPS 64(SI), Z25; \
	ADDQ DX, SI

#define B1 \
	VMOVUPS (SI), Z24; \
	ADDQ DX, SI

#define STORE512 \
	MOVQ tile_ldc(AX), R8;  \
	MOVQ tile_skip(AX), R9; \
	CMPQ tile_add(AX), $0

#define PUT2(i, a, b) \
	CMPQ R9, $i;           \
	JGT 3(PC);             \
	VMOVUPS a, K1, (DI);   \
	VMOVUPS b, K2, 64(DI); \
	ADDQ R8, DI

#define ADD2(i, a, b) \
	CMPQ R9, $i;              \
	JGT 5(PC);                \
	VADDPS (DI), a, K1, a;    \
	VADDPS 64(DI), b, K2, b;  \
	VMOVUPS a, K1, (DI);      \
	VMOVUPS b, K2, 64(DI);    \
	ADDQ R8, DI

#define PUT1(i, a) \
	CMPQ R9, $i;         \
	JGT 2(PC);           \
	VMOVUPS a, K1, (DI); \
	ADDQ R8, DI

#define ADD1(i, a) \
	CMPQ R9, $i;           \
	JGT 3(PC);             \
	VADDPS (DI), a, K1, a; \
	VMOVUPS a, K1, (DI);   \
	ADDQ R8, DI

TEXT TILE12X32(SB), NOSPLIT, $0-8
	LOAD512
	INIT2(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)
	INIT2(Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15)
	INIT2(Z16, Z17, Z18, Z19, Z20, Z21, Z22, Z23)
	CMPQ tile_add(AX), $0
	JEQ near
	MOVQ DI, BX
	MOVQ tile_ldc(AX), R15
	FETCH4
	FETCH4
	FETCH4
near:
	TESTQ CX, CX
	JZ store
	PCALIGN $32
loop:
	B2
	ROWS2(R8, 0, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)
	ROWS2(R9, 8, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15)
	ROWS2(R10, 16, Z16, Z17, Z18, Z19, Z20, Z21, Z22, Z23)
	DECQ CX
	JNZ loop
store:
	STORE512
	JNE add
	PUT2(0, Z0, Z1)
	PUT2(1, Z2, Z3)
	PUT2(2, Z4, Z5)
	PUT2(3, Z6, Z7)
	PUT2(4, Z8, Z9)
	PUT2(5, Z10, Z11)
	PUT2(6, Z12, Z13)
	PUT2(7, Z14, Z15)
	PUT2(8, Z16, Z17)
	PUT2(9, Z18, Z19)
	PUT2(10, Z20, Z21)
	PUT2(11, Z22, Z23)
	VZEROUPPER
	RET
add:
	ADD2(0, Z0, Z1)
	ADD2(1, Z2, Z3)
	ADD2(2, Z4, Z5)
	ADD2(3, Z6, Z7)
	ADD2(4, Z8, Z9)
	ADD2(5, Z10, Z11)
	ADD2(6, Z12, Z13)
	ADD2(7, Z14, Z15)
	ADD2(8, Z16, Z17)
	ADD2(9, Z18, Z19)
	ADD2(10, Z20, Z21)
	ADD2(11, Z22, Z23)
	VZEROUPPER
	RET

TEXT TILE8X32(SB), NOSPLIT, $0-8
	LOAD512
	INIT2(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)
	INIT2(Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15)
	CMPQ tile_add(AX), $0
	JEQ near
	MOVQ DI, BX
	MOVQ tile_ldc(AX), R15
	FETCH4
	FETCH4
near:
	TESTQ CX, CX
	JZ store
	PCALIGN $32
loop:
	B2
	ROWS2(R8, 0, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)
	ROWS2(R9, 8, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15)
	DECQ CX
	JNZ loop
store:
	STORE512
	JNE add
	PUT2(0, Z0, Z1)
	PUT2(1, Z2, Z3)
	PUT2(2, Z4, Z5)
	PUT2(3, Z6, Z7)
	PUT2(4, Z8, Z9)
	PUT2(5, Z10, Z11)
	PUT2(6, Z12, Z13)
	PUT2(7, Z14, Z15)
	VZEROUPPER
	RET
add:
	ADD2(0, Z0, Z1)
	ADD2(1, Z2, Z3)
	ADD2(2, Z4, Z5)
	ADD2(3, Z6, Z7)
	ADD2(4, Z8, Z9)
	ADD2(5, Z10, Z11)
	ADD2(6, Z12, Z13)
	ADD2(7, Z14, Z15)
	VZEROUPPER
	RET

TEXT TILE4X32(SB), NOSPLIT, $0-8
	LOAD512
	INIT2(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)
	CMPQ tile_add(AX), $0
	JEQ near
	MOVQ DI, BX
	MOVQ tile_ldc(AX), R15
	FETCH4
near:
	TESTQ CX, CX
	JZ store
	PCALIGN $32
loop:
	B2
	ROWS2(R8, 0, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)
	DECQ CX
	JNZ loop
store:
	STORE512
	JNE add
	PUT2(0, Z0, Z1)
	PUT2(1, Z2, Z3)
	PUT2(2, Z4, Z5)
	PUT2(3, Z6, Z7)
	VZEROUPPER
	RET
add:
	ADD2(0, Z0, Z1)
	ADD2(1, Z2, Z3)
	ADD2(2, Z4, Z5)
	ADD2(3, Z6, Z7)
	VZEROUPPER
	RET

TEXT TILE12X16(SB), NOSPLIT, $0-8
	LOAD512
	INIT1(Z0, Z1, Z2, Z3)
	INIT1(Z4, Z5, Z6, Z7)
	INIT1(Z8, Z9, Z10, Z11)
	TESTQ CX, CX
	JZ store
	PCALIGN $32
loop:
	B1
	ROWS1(R8, 0, Z0, Z1, Z2, Z3)
	ROWS1(R9, 4, Z4, Z5, Z6, Z7)
	ROWS1(R10, 8, Z8, Z9, Z10, Z11)
	DECQ CX
	JNZ loop
store:
	STORE512
	JNE add
	PUT1(0, Z0)
	PUT1(1, Z1)
	PUT1(2, Z2)
	PUT1(3, Z3)
	PUT1(4, Z4)
	PUT1(5, Z5)
	PUT1(6, Z6)
	PUT1(7, Z7)
	PUT1(8, Z8)
	PUT1(9, Z9)
	PUT1(10, Z10)
	PUT1(11, Z11)
	VZEROUPPER
	RET
add:
	ADD1(0, Z0)
	ADD1(1, Z1)
	ADD1(2, Z2)
	ADD1(3, Z3)
	ADD1(4, Z4)
	ADD1(5, Z5)
	ADD1(6, Z6)
	ADD1(7, Z7)
	ADD1(8, Z8)
	ADD1(9, Z9)
	ADD1(10, Z10)
	ADD1(11, Z11)
	VZEROUPPER
	RET

TEXT TILE8X16(SB), NOSPLIT, $0-8
	LOAD512
	INIT1(Z0, Z1, Z2, Z3)
	INIT1(Z4, Z5, Z6, Z7)
	TESTQ CX, CX
	JZ store
	PCALIGN $32
loop:
	B1
	ROWS1(R8, 0, Z0, Z1, Z2, Z3)
	ROWS1(R9, 4, Z4, Z5, Z6, Z7)
	DECQ CX
	JNZ loop
store:
	STORE512
	JNE add
	PUT1(0, Z0)
	PUT1(1, Z1)
	PUT1(2, Z2)
	PUT1(3, Z3)
	PUT1(4, Z4)
	PUT1(5, Z5)
	PUT1(6, Z6)
	PUT1(7, Z7)
	VZEROUPPER
	RET
add:
	ADD1(0, Z0)
	ADD1(1, Z1)
	ADD1(2, Z2)
	ADD1(3, Z3)
	ADD1(4, Z4)
	ADD1(5, Z5)
	ADD1(6, Z6)
	ADD1(7, Z7)
	VZEROUPPER
	RET

TEXT TILE4X16(SB), NOSPLIT, $0-8
	LOAD512
	INIT1(Z0, Z1, Z2, Z3)
	TESTQ CX, CX
	JZ store
	PCALIGN $32
loop:
	B1
	ROWS1(R8, 0, Z0, Z1, Z2, Z3)
	DECQ CX
	JNZ loop
store:
	STORE512
	JNE add
	PUT1(0, Z0)
	PUT1(1, Z1)
	PUT1(2, Z2)
	PUT1(3, Z3)
	VZEROUPPER
	RET
add:
	ADD1(0, Z0)
	ADD1(1, Z1)
	ADD1(2, Z2)
	ADD1(3, Z3)
	VZEROUPPER
	RET
