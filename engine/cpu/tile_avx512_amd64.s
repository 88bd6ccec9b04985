#include "textflag.h"
#include "go_asm.h"

// Register tiles of the matrix product: C[rows, cols] (=|+=) bias + Σ_k A[row, k]·B[k, col]. See tile in tile.go.
//
// A's elements are broadcast from where they lie: row i of a group of rows at base + i·rs, next k at + cs. B
// comes in rows of one panel, ldb bytes apart. AX holds the tile throughout.

// Four rows, two vectors: eight sums.
#define ROWS2(base, first, a, b, c, d, e, f, g, h) \
	VBROADCASTSS (base), Z26;        \
	VBROADCASTSS (base)(R11*1), Z27; \
	VFMADD231PS Z24, Z26, a;         \
	VFMADD231PS Z25, Z26, b;         \
	VBROADCASTSS (base)(R11*2), Z28; \
	VFMADD231PS Z24, Z27, c;         \
	VFMADD231PS Z25, Z27, d;         \
	VBROADCASTSS (base)(R12*1), Z29; \
	VFMADD231PS Z24, Z28, e;         \
	VFMADD231PS Z25, Z28, f;         \
	ADDQ R13, base;                  \
	VFMADD231PS Z24, Z29, g;         \
	VFMADD231PS Z25, Z29, h

#define ROWS1(base, first, a, b, c, d) \
	VFMADD231PS.BCST (base), Z24, a;        \
	VFMADD231PS.BCST (base)(R11*1), Z24, b; \
	VFMADD231PS.BCST (base)(R11*2), Z24, c; \
	VFMADD231PS.BCST (base)(R12*1), Z24, d; \
	ADDQ R13, base

#define TILE12X32 ·tile12x32
#define TILE8X32 ·tile8x32
#define TILE4X32 ·tile4x32
#define TILE12X16 ·tile12x16
#define TILE8X16 ·tile8x16
#define TILE4X16 ·tile4x16

#include "tile_avx512_amd64.h"
