#include "textflag.h"
#include "bf16_amd64.h"

// What the processor does at most: loops that wait for nothing but its own units.

#define FMA8(a, b, c, d, e, f, g, h, x, y) \
	VFMADD231PS x, y, a; VFMADD231PS x, y, b; VFMADD231PS x, y, c; VFMADD231PS x, y, d; \
	VFMADD231PS x, y, e; VFMADD231PS x, y, f; VFMADD231PS x, y, g; VFMADD231PS x, y, h

// func fma512(n int)
// 24 products of 16 lanes, n times.
TEXT ·fma512(SB), NOSPLIT, $0-8
	MOVQ n+0(FP), CX
	VPXORD Z30, Z30, Z30
	VPXORD Z31, Z31, Z31
	PCALIGN $32
loop:
	FMA8(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z30, Z31)
	FMA8(Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15, Z30, Z31)
	FMA8(Z16, Z17, Z18, Z19, Z20, Z21, Z22, Z23, Z30, Z31)
	DECQ CX
	JNZ loop
	VZEROUPPER
	RET

// func fma256(n int)
// 12 products of 8 lanes, n times.
TEXT ·fma256(SB), NOSPLIT, $0-8
	MOVQ n+0(FP), CX
	VXORPS Y14, Y14, Y14
	VXORPS Y15, Y15, Y15
	PCALIGN $32
again:
	FMA8(Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y14, Y15)
	VFMADD231PS Y14, Y15, Y8
	VFMADD231PS Y14, Y15, Y9
	VFMADD231PS Y14, Y15, Y10
	VFMADD231PS Y14, Y15, Y11
	DECQ CX
	JNZ again
	VZEROUPPER
	RET

#define PAIRS8(first) \
	VDPBF16PS(30, 31, first+0); VDPBF16PS(30, 31, first+1); VDPBF16PS(30, 31, first+2); VDPBF16PS(30, 31, first+3); \
	VDPBF16PS(30, 31, first+4); VDPBF16PS(30, 31, first+5); VDPBF16PS(30, 31, first+6); VDPBF16PS(30, 31, first+7)

// func pairs512(n int)
// 24 products of 16 pairs of bfloat16 numbers, n times.
TEXT ·pairs512(SB), NOSPLIT, $0-8
	MOVQ n+0(FP), CX
	VPXORD Z30, Z30, Z30
	VPXORD Z31, Z31, Z31
	PCALIGN $32
more:
	PAIRS8(0)
	PAIRS8(8)
	PAIRS8(16)
	DECQ CX
	JNZ more
	VZEROUPPER
	RET

// func readAVX(x *float32, n int)
// Loads n values, a multiple of 64, and does nothing with them.
TEXT ·readAVX(SB), NOSPLIT, $0-16
	MOVQ x+0(FP), SI
	MOVQ n+8(FP), CX
read:
	VORPS (SI), Y0, Y0
	VORPS 32(SI), Y1, Y1
	VORPS 64(SI), Y2, Y2
	VORPS 96(SI), Y3, Y3
	VORPS 128(SI), Y4, Y4
	VORPS 160(SI), Y5, Y5
	VORPS 192(SI), Y6, Y6
	VORPS 224(SI), Y7, Y7
	ADDQ $256, SI
	SUBQ $64, CX
	JNZ read
	VZEROUPPER
	RET
