#include "textflag.h"
#include "bf16_amd64.h"

// Rounding to bfloat16, to nearest, ties to even: float32 numbers below 2^-126 become zero, NaN stays NaN.

// func roundPairsAVX512(out, x *float32, n int)
// n values, a multiple of 32, as pairs.
TEXT ·roundPairsAVX512(SB), NOSPLIT, $0-24
	MOVQ out+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
pairs:
	VMOVUPS (SI), Z0
	VMOVUPS 64(SI), Z1
	VCVTNE2PS2BF16(0, 1, 2)
	VMOVUPS Z2, (DI)
	ADDQ $128, SI
	ADDQ $64, DI
	SUBQ $32, CX
	JNZ pairs
	VZEROUPPER
	RET

// Y0 becomes its bfloat16 values as float32. Y10 = 1, Y11 = 0x7fff, Y12 = 0xffff0000, Y13 = 0x7f800000, Y14 = 0x400000,
// Y9 = 0x80000000; Y1 to Y3 are used.
#define ROUND8 \
	VPSRLD $16, Y0, Y1;       \
	VPAND Y10, Y1, Y1;        \
	VPADDD Y11, Y1, Y1;       \
	VPADDD Y0, Y1, Y1;        \
	VPAND Y12, Y1, Y1;        \
	VCMPPS $3, Y0, Y0, Y2;    \
	VPOR Y14, Y0, Y3;         \
	VPAND Y12, Y3, Y3;        \
	VBLENDVPS Y2, Y3, Y1, Y1; \
	VPAND Y13, Y0, Y2;        \
	VPXOR Y3, Y3, Y3;         \
	VPCMPEQD Y3, Y2, Y2;      \
	VPAND Y9, Y0, Y3;         \
	VBLENDVPS Y2, Y3, Y1, Y0

#define CONSTANTS \
	VPCMPEQD Y12, Y12, Y12;  \
	VPSRLD $31, Y12, Y10;    \
	VPSLLD $31, Y12, Y9;     \
	VPSRLD $17, Y12, Y11;    \
	VPSRLD $24, Y12, Y13;    \
	VPSLLD $23, Y13, Y13;    \
	VPSLLD $22, Y10, Y14;    \
	VPSLLD $16, Y12, Y12

// func roundAVX(out, x *float32, n int)
// n values, a multiple of 8, as float32.
TEXT ·roundAVX(SB), NOSPLIT, $0-24
	MOVQ out+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	CONSTANTS
plain:
	VMOVUPS (SI), Y0
	ROUND8
	VMOVUPS Y0, (DI)
	ADDQ $32, SI
	ADDQ $32, DI
	SUBQ $8, CX
	JNZ plain
	VZEROUPPER
	RET

// func roundSwappedAVX(out, x *float32, n int)
// n values, a multiple of 8, as float32, neighbours changed over.
TEXT ·roundSwappedAVX(SB), NOSPLIT, $0-24
	MOVQ out+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	CONSTANTS
swapped:
	VMOVUPS (SI), Y0
	ROUND8
	VPERMILPS $0xb1, Y0, Y0
	VMOVUPS Y0, (DI)
	ADDQ $32, SI
	ADDQ $32, DI
	SUBQ $8, CX
	JNZ swapped
	VZEROUPPER
	RET

// Words of two registers in turns, 0, 32, 1, 33 …: 16 pairs of the first columns; 16 more make those of the next.
DATA zipLow<>+0(SB)/8, $0x0021000100200000
DATA zipLow<>+8(SB)/8, $0x0023000300220002
DATA zipLow<>+16(SB)/8, $0x0025000500240004
DATA zipLow<>+24(SB)/8, $0x0027000700260006
DATA zipLow<>+32(SB)/8, $0x0029000900280008
DATA zipLow<>+40(SB)/8, $0x002b000b002a000a
DATA zipLow<>+48(SB)/8, $0x002d000d002c000c
DATA zipLow<>+56(SB)/8, $0x002f000f002e000e
GLOBL zipLow<>(SB), RODATA|NOPTR, $64

DATA sixteen<>+0(SB)/8, $0x0010001000100010
GLOBL sixteen<>(SB), RODATA|NOPTR, $8

// func zipPanelAVX512(dst *float32, src *uint16, n, stride int)
// n pairs of rows of 32 bfloat16 values, rows stride values apart, each pair to one row of 32 pairs. What lies some rows ahead is fetched.
TEXT ·zipPanelAVX512(SB), NOSPLIT, $0-32
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ stride+24(FP), R8
	SHLQ $1, R8
	LEAQ (SI)(R8*8), R9
	LEAQ (R9)(R8*8), R9
	VMOVDQU64 zipLow<>(SB), Z4
	VPBROADCASTQ sixteen<>(SB), Z5
	VPADDW Z4, Z5, Z5
zip:
	PREFETCHT0 (R9)
	PREFETCHT0 63(R9)
	PREFETCHT0 (R9)(R8*1)
	PREFETCHT0 63(R9)(R8*1)
	VMOVDQU64 (SI), Z0
	VMOVDQU64 (SI)(R8*1), Z1
	VMOVDQA64 Z0, Z2
	VPERMT2W Z1, Z4, Z0
	VPERMT2W Z1, Z5, Z2
	VMOVDQU64 Z0, (DI)
	VMOVDQU64 Z2, 64(DI)
	LEAQ (SI)(R8*2), SI
	LEAQ (R9)(R8*2), R9
	ADDQ $128, DI
	DECQ CX
	JNZ zip
	VZEROUPPER
	RET
