#include "textflag.h"
#include "go_asm.h"
#include "bf16_amd64.h"

// Register tiles of a product of bfloat16 numbers: as in tile_avx512_amd64.s, but that what is one value of A and of B there is a
// pair here, of two k that follow each other.

// Four rows, two vectors: eight sums.
#define ROWS2(base, first, a, b, c, d, e, f, g, h) \
	VBROADCASTSS (base), Z26;        \
	VBROADCASTSS (base)(R11*1), Z27; \
	VDPBF16PS(24, 26, first+0);      \
	VDPBF16PS(25, 26, first+1);      \
	VBROADCASTSS (base)(R11*2), Z28; \
	VDPBF16PS(24, 27, first+2);      \
	VDPBF16PS(25, 27, first+3);      \
	VBROADCASTSS (base)(R12*1), Z29; \
	VDPBF16PS(24, 28, first+4);      \
	VDPBF16PS(25, 28, first+5);      \
	ADDQ R13, base;                  \
	VDPBF16PS(24, 29, first+6);      \
	VDPBF16PS(25, 29, first+7)

#define ROWS1(base, first, a, b, c, d) \
	VBROADCASTSS (base), Z26;        \
	VBROADCASTSS (base)(R11*1), Z27; \
	VBROADCASTSS (base)(R11*2), Z28; \
	VBROADCASTSS (base)(R12*1), Z29; \
	VDPBF16PS(24, 26, first+0);      \
	VDPBF16PS(24, 27, first+1);      \
	VDPBF16PS(24, 28, first+2);      \
	VDPBF16PS(24, 29, first+3);      \
	ADDQ R13, base

#define TILE12X32 ·pairs12x32
#define TILE8X32 ·pairs8x32
#define TILE4X32 ·pairs4x32
#define TILE12X16 ·pairs12x16
#define TILE8X16 ·pairs8x16
#define TILE4X16 ·pairs4x16

#include "tile_avx512_amd64.h"
