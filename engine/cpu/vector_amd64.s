#include "textflag.h"

// Vector functions in AVX2 and FMA, eight values at a time. The last values are handled with a mask, in the same
// arithmetic. Formulas stand beside their twins in vector.go.

DATA expLow<>+0(SB)/8, $0xc2aeac50c2aeac50
DATA expLow<>+8(SB)/8, $0xc2aeac50c2aeac50
DATA expLow<>+16(SB)/8, $0xc2aeac50c2aeac50
DATA expLow<>+24(SB)/8, $0xc2aeac50c2aeac50
GLOBL expLow<>(SB), RODATA|NOPTR, $32
DATA expHigh<>+0(SB)/8, $0x42b0c0a542b0c0a5
DATA expHigh<>+8(SB)/8, $0x42b0c0a542b0c0a5
DATA expHigh<>+16(SB)/8, $0x42b0c0a542b0c0a5
DATA expHigh<>+24(SB)/8, $0x42b0c0a542b0c0a5
GLOBL expHigh<>(SB), RODATA|NOPTR, $32
DATA log2e<>+0(SB)/8, $0x3fb8aa3b3fb8aa3b
DATA log2e<>+8(SB)/8, $0x3fb8aa3b3fb8aa3b
DATA log2e<>+16(SB)/8, $0x3fb8aa3b3fb8aa3b
DATA log2e<>+24(SB)/8, $0x3fb8aa3b3fb8aa3b
GLOBL log2e<>(SB), RODATA|NOPTR, $32
DATA ln2hi<>+0(SB)/8, $0x3f3180003f318000
DATA ln2hi<>+8(SB)/8, $0x3f3180003f318000
DATA ln2hi<>+16(SB)/8, $0x3f3180003f318000
DATA ln2hi<>+24(SB)/8, $0x3f3180003f318000
GLOBL ln2hi<>(SB), RODATA|NOPTR, $32
DATA ln2lo<>+0(SB)/8, $0xb95e8083b95e8083
DATA ln2lo<>+8(SB)/8, $0xb95e8083b95e8083
DATA ln2lo<>+16(SB)/8, $0xb95e8083b95e8083
DATA ln2lo<>+24(SB)/8, $0xb95e8083b95e8083
GLOBL ln2lo<>(SB), RODATA|NOPTR, $32
DATA exp0<>+0(SB)/8, $0x3950696739506967
DATA exp0<>+8(SB)/8, $0x3950696739506967
DATA exp0<>+16(SB)/8, $0x3950696739506967
DATA exp0<>+24(SB)/8, $0x3950696739506967
GLOBL exp0<>(SB), RODATA|NOPTR, $32
DATA exp1<>+0(SB)/8, $0x3ab743ce3ab743ce
DATA exp1<>+8(SB)/8, $0x3ab743ce3ab743ce
DATA exp1<>+16(SB)/8, $0x3ab743ce3ab743ce
DATA exp1<>+24(SB)/8, $0x3ab743ce3ab743ce
GLOBL exp1<>(SB), RODATA|NOPTR, $32
DATA exp2<>+0(SB)/8, $0x3c0889083c088908
DATA exp2<>+8(SB)/8, $0x3c0889083c088908
DATA exp2<>+16(SB)/8, $0x3c0889083c088908
DATA exp2<>+24(SB)/8, $0x3c0889083c088908
GLOBL exp2<>(SB), RODATA|NOPTR, $32
DATA exp3<>+0(SB)/8, $0x3d2aa9c13d2aa9c1
DATA exp3<>+8(SB)/8, $0x3d2aa9c13d2aa9c1
DATA exp3<>+16(SB)/8, $0x3d2aa9c13d2aa9c1
DATA exp3<>+24(SB)/8, $0x3d2aa9c13d2aa9c1
GLOBL exp3<>(SB), RODATA|NOPTR, $32
DATA exp4<>+0(SB)/8, $0x3e2aaaaa3e2aaaaa
DATA exp4<>+8(SB)/8, $0x3e2aaaaa3e2aaaaa
DATA exp4<>+16(SB)/8, $0x3e2aaaaa3e2aaaaa
DATA exp4<>+24(SB)/8, $0x3e2aaaaa3e2aaaaa
GLOBL exp4<>(SB), RODATA|NOPTR, $32
DATA exp5<>+0(SB)/8, $0x3f0000003f000000
DATA exp5<>+8(SB)/8, $0x3f0000003f000000
DATA exp5<>+16(SB)/8, $0x3f0000003f000000
DATA exp5<>+24(SB)/8, $0x3f0000003f000000
GLOBL exp5<>(SB), RODATA|NOPTR, $32
DATA one<>+0(SB)/8, $0x3f8000003f800000
DATA one<>+8(SB)/8, $0x3f8000003f800000
DATA one<>+16(SB)/8, $0x3f8000003f800000
DATA one<>+24(SB)/8, $0x3f8000003f800000
GLOBL one<>(SB), RODATA|NOPTR, $32
DATA lowest<>+0(SB)/8, $0xff800000ff800000
DATA lowest<>+8(SB)/8, $0xff800000ff800000
DATA lowest<>+16(SB)/8, $0xff800000ff800000
DATA lowest<>+24(SB)/8, $0xff800000ff800000
GLOBL lowest<>(SB), RODATA|NOPTR, $32
DATA bias127<>+0(SB)/8, $0x0000007f0000007f
DATA bias127<>+8(SB)/8, $0x0000007f0000007f
DATA bias127<>+16(SB)/8, $0x0000007f0000007f
DATA bias127<>+24(SB)/8, $0x0000007f0000007f
GLOBL bias127<>(SB), RODATA|NOPTR, $32
DATA signbit<>+0(SB)/8, $0x8000000080000000
DATA signbit<>+8(SB)/8, $0x8000000080000000
DATA signbit<>+16(SB)/8, $0x8000000080000000
DATA signbit<>+24(SB)/8, $0x8000000080000000
GLOBL signbit<>(SB), RODATA|NOPTR, $32

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

// EXP: x = exp(x), about one unit in the last place (the polynomial of Cephes' expf). Clamped to the normal range;
// NaN stays NaN. Takes Y13 and Y14 for itself, Y11 and Y12 hold the bounds.
#define EXPBOUNDS \
	VMOVUPS expLow<>(SB), Y11; \
	VMOVUPS expHigh<>(SB), Y12

#define EXP(x) \
	VMAXPS x, Y11, x;                    \
	VMINPS x, Y12, x;                    \
	VMULPS log2e<>(SB), x, Y13;          \
	VROUNDPS $0, Y13, Y13;               \
	VFNMADD231PS ln2hi<>(SB), Y13, x;    \
	VFNMADD231PS ln2lo<>(SB), Y13, x;    \
	VMOVUPS exp0<>(SB), Y14;             \
	VFMADD213PS exp1<>(SB), x, Y14;      \
	VFMADD213PS exp2<>(SB), x, Y14;      \
	VFMADD213PS exp3<>(SB), x, Y14;      \
	VFMADD213PS exp4<>(SB), x, Y14;      \
	VFMADD213PS exp5<>(SB), x, Y14;      \
	VCVTPS2DQ Y13, Y13;                  \
	VMULPS x, Y14, Y14;                  \
	VPADDD bias127<>(SB), Y13, Y13;      \
	VFMADD213PS x, x, Y14;               \
	VPSLLD $23, Y13, Y13;                \
	VADDPS one<>(SB), Y14, x;            \
	VMULPS Y13, x, x

// SUM: the eight values of y added in a fixed order, in x's lowest.
#define SUM(y, x, tmp) \
	VEXTRACTF128 $1, y, tmp; \
	VADDPS tmp, x, x;        \
	VHADDPS x, x, x;         \
	VHADDPS x, x, x

// func addAVX(out, a, b *float32, n int)
TEXT ·addAVX(SB), NOSPLIT, $0-32
	MOVQ out+0(FP), DI
	MOVQ a+8(FP), SI
	MOVQ b+16(FP), DX
	MOVQ n+24(FP), CX
	SUBQ $8, CX
	JLT tail
loop:
	VMOVUPS (SI), Y0
	VMOVUPS (DX), Y1
	VADDPS Y1, Y0, Y0
	VMOVUPS Y0, (DI)
	ADDQ $32, DI
	ADDQ $32, SI
	ADDQ $32, DX
	SUBQ $8, CX
	JGE loop
tail:
	ADDQ $8, CX
	JZ done
	TAIL
	VMASKMOVPS (SI), Y15, Y0
	VMASKMOVPS (DX), Y15, Y1
	VADDPS Y1, Y0, Y0
	VMASKMOVPS Y0, Y15, (DI)
done:
	VZEROUPPER
	RET

// func scaleAVX(out, a *float32, n int, s float32)
TEXT ·scaleAVX(SB), NOSPLIT, $0-28
	MOVQ out+0(FP), DI
	MOVQ a+8(FP), SI
	MOVQ n+16(FP), CX
	VBROADCASTSS s+24(FP), Y8
	SUBQ $8, CX
	JLT tail
loop:
	VMOVUPS (SI), Y0
	VMULPS Y8, Y0, Y0
	VMOVUPS Y0, (DI)
	ADDQ $32, DI
	ADDQ $32, SI
	SUBQ $8, CX
	JGE loop
tail:
	ADDQ $8, CX
	JZ done
	TAIL
	VMASKMOVPS (SI), Y15, Y0
	VMULPS Y8, Y0, Y0
	VMASKMOVPS Y0, Y15, (DI)
done:
	VZEROUPPER
	RET

// func normAVX(out, x, w *float32, n int, r float32)
TEXT ·normAVX(SB), NOSPLIT, $0-36
	MOVQ out+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ w+16(FP), DX
	MOVQ n+24(FP), CX
	VBROADCASTSS r+32(FP), Y8
	SUBQ $8, CX
	JLT tail
loop:
	VMOVUPS (SI), Y0
	VMOVUPS (DX), Y1
	VMULPS Y8, Y0, Y0
	VMULPS Y1, Y0, Y0
	VMOVUPS Y0, (DI)
	ADDQ $32, DI
	ADDQ $32, SI
	ADDQ $32, DX
	SUBQ $8, CX
	JGE loop
tail:
	ADDQ $8, CX
	JZ done
	TAIL
	VMASKMOVPS (SI), Y15, Y0
	VMASKMOVPS (DX), Y15, Y1
	VMULPS Y8, Y0, Y0
	VMULPS Y1, Y0, Y0
	VMASKMOVPS Y0, Y15, (DI)
done:
	VZEROUPPER
	RET

// func normBackAVX(dx, dy, w, x *float32, n int, r, s float32)
TEXT ·normBackAVX(SB), NOSPLIT, $0-48
	MOVQ dx+0(FP), DI
	MOVQ dy+8(FP), SI
	MOVQ w+16(FP), DX
	MOVQ x+24(FP), R8
	MOVQ n+32(FP), CX
	VBROADCASTSS r+40(FP), Y8
	VBROADCASTSS s+44(FP), Y9
	SUBQ $8, CX
	JLT tail
loop:
	VMOVUPS (DI), Y0
	VMOVUPS (SI), Y1
	VMOVUPS (DX), Y2
	VMOVUPS (R8), Y3
	VMULPS Y2, Y1, Y1
	VFMADD231PS Y8, Y1, Y0
	VFNMADD231PS Y9, Y3, Y0
	VMOVUPS Y0, (DI)
	ADDQ $32, DI
	ADDQ $32, SI
	ADDQ $32, DX
	ADDQ $32, R8
	SUBQ $8, CX
	JGE loop
tail:
	ADDQ $8, CX
	JZ done
	TAIL
	VMASKMOVPS (DI), Y15, Y0
	VMASKMOVPS (SI), Y15, Y1
	VMASKMOVPS (DX), Y15, Y2
	VMASKMOVPS (R8), Y15, Y3
	VMULPS Y2, Y1, Y1
	VFMADD231PS Y8, Y1, Y0
	VFNMADD231PS Y9, Y3, Y0
	VMASKMOVPS Y0, Y15, (DI)
done:
	VZEROUPPER
	RET

// func mulAddAVX(out, a, b *float32, n int, s float32)
TEXT ·mulAddAVX(SB), NOSPLIT, $0-36
	MOVQ out+0(FP), DI
	MOVQ a+8(FP), SI
	MOVQ b+16(FP), DX
	MOVQ n+24(FP), CX
	VBROADCASTSS s+32(FP), Y8
	SUBQ $8, CX
	JLT tail
loop:
	VMOVUPS (DI), Y0
	VMOVUPS (SI), Y1
	VMOVUPS (DX), Y2
	VMULPS Y8, Y1, Y1
	VFMADD231PS Y2, Y1, Y0
	VMOVUPS Y0, (DI)
	ADDQ $32, DI
	ADDQ $32, SI
	ADDQ $32, DX
	SUBQ $8, CX
	JGE loop
tail:
	ADDQ $8, CX
	JZ done
	TAIL
	VMASKMOVPS (DI), Y15, Y0
	VMASKMOVPS (SI), Y15, Y1
	VMASKMOVPS (DX), Y15, Y2
	VMULPS Y8, Y1, Y1
	VFMADD231PS Y2, Y1, Y0
	VMASKMOVPS Y0, Y15, (DI)
done:
	VZEROUPPER
	RET

// func softBackAVX(ds, p, dp *float32, n int, delta, s float32)
TEXT ·softBackAVX(SB), NOSPLIT, $0-40
	MOVQ ds+0(FP), DI
	MOVQ p+8(FP), SI
	MOVQ dp+16(FP), DX
	MOVQ n+24(FP), CX
	VBROADCASTSS delta+32(FP), Y8
	VBROADCASTSS s+36(FP), Y9
	SUBQ $8, CX
	JLT tail
loop:
	VMOVUPS (SI), Y0
	VMOVUPS (DX), Y1
	VSUBPS Y8, Y1, Y1
	VMULPS Y9, Y0, Y0
	VMULPS Y1, Y0, Y0
	VMOVUPS Y0, (DI)
	ADDQ $32, DI
	ADDQ $32, SI
	ADDQ $32, DX
	SUBQ $8, CX
	JGE loop
tail:
	ADDQ $8, CX
	JZ done
	TAIL
	VMASKMOVPS (SI), Y15, Y0
	VMASKMOVPS (DX), Y15, Y1
	VSUBPS Y8, Y1, Y1
	VMULPS Y9, Y0, Y0
	VMULPS Y1, Y0, Y0
	VMASKMOVPS Y0, Y15, (DI)
done:
	VZEROUPPER
	RET

// func rotateAVX(lo, hi, cos, sin *float32, n int, sign float32)
TEXT ·rotateAVX(SB), NOSPLIT, $0-44
	MOVQ lo+0(FP), DI
	MOVQ hi+8(FP), SI
	MOVQ cos+16(FP), DX
	MOVQ sin+24(FP), R8
	MOVQ n+32(FP), CX
	VBROADCASTSS sign+40(FP), Y8
	SUBQ $8, CX
	JLT tail
loop:
	VMOVUPS (DI), Y0
	VMOVUPS (SI), Y1
	VMOVUPS (DX), Y2
	VMOVUPS (R8), Y3
	VMULPS Y8, Y3, Y3
	VMULPS Y2, Y0, Y4
	VMULPS Y2, Y1, Y5
	VFNMADD231PS Y3, Y1, Y4
	VFMADD231PS Y3, Y0, Y5
	VMOVUPS Y4, (DI)
	VMOVUPS Y5, (SI)
	ADDQ $32, DI
	ADDQ $32, SI
	ADDQ $32, DX
	ADDQ $32, R8
	SUBQ $8, CX
	JGE loop
tail:
	ADDQ $8, CX
	JZ done
	TAIL
	VMASKMOVPS (DI), Y15, Y0
	VMASKMOVPS (SI), Y15, Y1
	VMASKMOVPS (DX), Y15, Y2
	VMASKMOVPS (R8), Y15, Y3
	VMULPS Y8, Y3, Y3
	VMULPS Y2, Y0, Y4
	VMULPS Y2, Y1, Y5
	VFNMADD231PS Y3, Y1, Y4
	VFMADD231PS Y3, Y0, Y5
	VMASKMOVPS Y4, Y15, (DI)
	VMASKMOVPS Y5, Y15, (SI)
done:
	VZEROUPPER
	RET

// func siluAVX(h, gate, u *float32, n int)
TEXT ·siluAVX(SB), NOSPLIT, $0-32
	MOVQ h+0(FP), DI
	MOVQ gate+8(FP), SI
	MOVQ u+16(FP), DX
	MOVQ n+24(FP), CX
	EXPBOUNDS
	SUBQ $8, CX
	JLT tail
loop:
	VMOVUPS (SI), Y0
	VMOVUPS (DX), Y1
	VXORPS signbit<>(SB), Y0, Y3
	EXP(Y3)
	VADDPS one<>(SB), Y3, Y3
	VDIVPS Y3, Y0, Y0
	VMULPS Y1, Y0, Y0
	VMOVUPS Y0, (DI)
	ADDQ $32, DI
	ADDQ $32, SI
	ADDQ $32, DX
	SUBQ $8, CX
	JGE loop
tail:
	ADDQ $8, CX
	JZ done
	TAIL
	VMASKMOVPS (SI), Y15, Y0
	VMASKMOVPS (DX), Y15, Y1
	VXORPS signbit<>(SB), Y0, Y3
	EXP(Y3)
	VADDPS one<>(SB), Y3, Y3
	VDIVPS Y3, Y0, Y0
	VMULPS Y1, Y0, Y0
	VMASKMOVPS Y0, Y15, (DI)
done:
	VZEROUPPER
	RET

// func siluBackAVX(dg, du, dh, gate, u *float32, n int)
TEXT ·siluBackAVX(SB), NOSPLIT, $0-48
	MOVQ dg+0(FP), DI
	MOVQ du+8(FP), BX
	MOVQ dh+16(FP), R8
	MOVQ gate+24(FP), SI
	MOVQ u+32(FP), DX
	MOVQ n+40(FP), CX
	EXPBOUNDS
	SUBQ $8, CX
	JLT tail
loop:
	VMOVUPS (R8), Y2
	VMOVUPS (SI), Y0
	VMOVUPS (DX), Y1
	VXORPS signbit<>(SB), Y0, Y3
	EXP(Y3)
	VADDPS one<>(SB), Y3, Y3
	VMOVUPS one<>(SB), Y4
	VDIVPS Y3, Y4, Y3
	VSUBPS Y3, Y4, Y5
	VFMADD213PS Y4, Y0, Y5
	VMULPS Y3, Y2, Y2
	VMULPS Y2, Y1, Y1
	VMULPS Y5, Y1, Y1
	VMULPS Y0, Y2, Y2
	VMOVUPS Y1, (DI)
	VMOVUPS Y2, (BX)
	ADDQ $32, DI
	ADDQ $32, BX
	ADDQ $32, R8
	ADDQ $32, SI
	ADDQ $32, DX
	SUBQ $8, CX
	JGE loop
tail:
	ADDQ $8, CX
	JZ done
	TAIL
	VMASKMOVPS (R8), Y15, Y2
	VMASKMOVPS (SI), Y15, Y0
	VMASKMOVPS (DX), Y15, Y1
	VXORPS signbit<>(SB), Y0, Y3
	EXP(Y3)
	VADDPS one<>(SB), Y3, Y3
	VMOVUPS one<>(SB), Y4
	VDIVPS Y3, Y4, Y3
	VSUBPS Y3, Y4, Y5
	VFMADD213PS Y4, Y0, Y5
	VMULPS Y3, Y2, Y2
	VMULPS Y2, Y1, Y1
	VMULPS Y5, Y1, Y1
	VMULPS Y0, Y2, Y2
	VMASKMOVPS Y1, Y15, (DI)
	VMASKMOVPS Y2, Y15, (BX)
done:
	VZEROUPPER
	RET

// func adamwAVX(p, m, v, grad *float32, n int, keep, scale, b1, b2, beta2, step, root, eps float32)
TEXT ·adamwAVX(SB), NOSPLIT, $0-72
	MOVQ p+0(FP), DI
	MOVQ m+8(FP), SI
	MOVQ v+16(FP), DX
	MOVQ grad+24(FP), R8
	MOVQ n+32(FP), CX
	VBROADCASTSS keep+40(FP), Y5
	VBROADCASTSS scale+44(FP), Y6
	VBROADCASTSS b1+48(FP), Y7
	VBROADCASTSS b2+52(FP), Y8
	VBROADCASTSS beta2+56(FP), Y9
	VBROADCASTSS step+60(FP), Y10
	VBROADCASTSS root+64(FP), Y11
	VBROADCASTSS eps+68(FP), Y12
	SUBQ $8, CX
	JLT tail
loop:
	VMOVUPS (DI), Y0
	VMOVUPS (SI), Y1
	VMOVUPS (DX), Y2
	VMOVUPS (R8), Y3
	VMULPS Y6, Y3, Y3
	VSUBPS Y1, Y3, Y4
	VFMADD231PS Y7, Y4, Y1
	VMULPS Y3, Y3, Y4
	VMULPS Y8, Y4, Y4
	VFMADD231PS Y9, Y2, Y4
	VMOVAPS Y4, Y2
	VSQRTPS Y4, Y4
	VDIVPS Y11, Y4, Y4
	VADDPS Y12, Y4, Y4
	VDIVPS Y4, Y1, Y4
	VMULPS Y5, Y0, Y0
	VFNMADD231PS Y10, Y4, Y0
	VMOVUPS Y0, (DI)
	VMOVUPS Y1, (SI)
	VMOVUPS Y2, (DX)
	ADDQ $32, DI
	ADDQ $32, SI
	ADDQ $32, DX
	ADDQ $32, R8
	SUBQ $8, CX
	JGE loop
tail:
	ADDQ $8, CX
	JZ done
	TAIL
	VMASKMOVPS (DI), Y15, Y0
	VMASKMOVPS (SI), Y15, Y1
	VMASKMOVPS (DX), Y15, Y2
	VMASKMOVPS (R8), Y15, Y3
	VMULPS Y6, Y3, Y3
	VSUBPS Y1, Y3, Y4
	VFMADD231PS Y7, Y4, Y1
	VMULPS Y3, Y3, Y4
	VMULPS Y8, Y4, Y4
	VFMADD231PS Y9, Y2, Y4
	VMOVAPS Y4, Y2
	VSQRTPS Y4, Y4
	VDIVPS Y11, Y4, Y4
	VADDPS Y12, Y4, Y4
	VDIVPS Y4, Y1, Y4
	VMULPS Y5, Y0, Y0
	VFNMADD231PS Y10, Y4, Y0
	VMASKMOVPS Y0, Y15, (DI)
	VMASKMOVPS Y1, Y15, (SI)
	VMASKMOVPS Y2, Y15, (DX)
done:
	VZEROUPPER
	RET

// func sumSquaresAVX(x *float32, n int)
TEXT ·sumSquaresAVX(SB), NOSPLIT, $0-20
	MOVQ x+0(FP), SI
	MOVQ n+8(FP), CX
	VXORPS Y0, Y0, Y0
	SUBQ $8, CX
	JLT tail
loop:
	VMOVUPS (SI), Y1
	VFMADD231PS Y1, Y1, Y0
	ADDQ $32, SI
	SUBQ $8, CX
	JGE loop
tail:
	ADDQ $8, CX
	JZ done
	TAIL
	VMASKMOVPS (SI), Y15, Y1
	VFMADD231PS Y1, Y1, Y0
done:
	SUM(Y0, X0, X1)
	VMOVSS X0, ret+16(FP)
	VZEROUPPER
	RET

// func dot3AVX(a, b, c *float32, n int)
TEXT ·dot3AVX(SB), NOSPLIT, $0-36
	MOVQ a+0(FP), SI
	MOVQ b+8(FP), DX
	MOVQ c+16(FP), R8
	MOVQ n+24(FP), CX
	VXORPS Y0, Y0, Y0
	SUBQ $8, CX
	JLT tail
loop:
	VMOVUPS (SI), Y1
	VMULPS (DX), Y1, Y1
	VFMADD231PS (R8), Y1, Y0
	ADDQ $32, SI
	ADDQ $32, DX
	ADDQ $32, R8
	SUBQ $8, CX
	JGE loop
tail:
	ADDQ $8, CX
	JZ done
	TAIL
	VMASKMOVPS (SI), Y15, Y1
	VMASKMOVPS (DX), Y15, Y2
	VMASKMOVPS (R8), Y15, Y3
	VMULPS Y2, Y1, Y1
	VFMADD231PS Y3, Y1, Y0
done:
	SUM(Y0, X0, X1)
	VMOVSS X0, ret+32(FP)
	VZEROUPPER
	RET

// func dotAVX(a, b *float32, n int)
TEXT ·dotAVX(SB), NOSPLIT, $0-28
	MOVQ a+0(FP), SI
	MOVQ b+8(FP), DX
	MOVQ n+16(FP), CX
	VXORPS Y0, Y0, Y0
	SUBQ $8, CX
	JLT tail
loop:
	VMOVUPS (SI), Y1
	VFMADD231PS (DX), Y1, Y0
	ADDQ $32, SI
	ADDQ $32, DX
	SUBQ $8, CX
	JGE loop
tail:
	ADDQ $8, CX
	JZ done
	TAIL
	VMASKMOVPS (SI), Y15, Y1
	VMASKMOVPS (DX), Y15, Y2
	VFMADD231PS Y2, Y1, Y0
done:
	SUM(Y0, X0, X1)
	VMOVSS X0, ret+24(FP)
	VZEROUPPER
	RET

// func maxAVX(x *float32, n int)
TEXT ·maxAVX(SB), NOSPLIT, $0-20
	MOVQ x+0(FP), SI
	MOVQ n+8(FP), CX
	VMOVUPS lowest<>(SB), Y0
	SUBQ $8, CX
	JLT tail
loop:
	VMAXPS (SI), Y0, Y0
	ADDQ $32, SI
	SUBQ $8, CX
	JGE loop
tail:
	ADDQ $8, CX
	JZ done
	TAIL
	VMASKMOVPS (SI), Y15, Y1
	VMOVUPS lowest<>(SB), Y2
	VBLENDVPS Y15, Y1, Y2, Y1
	VMAXPS Y1, Y0, Y0
done:
	VEXTRACTF128 $1, Y0, X1
	VMAXPS X1, X0, X0
	VPERMILPS $0x4e, X0, X1
	VMAXPS X1, X0, X0
	VPERMILPS $0xb1, X0, X1
	VMAXPS X1, X0, X0
	VMOVSS X0, ret+16(FP)
	VZEROUPPER
	RET

// func expAVX(out, x *float32, n int, scale, shift float32)
TEXT ·expAVX(SB), NOSPLIT, $0-36
	MOVQ out+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ n+16(FP), CX
	VBROADCASTSS scale+24(FP), Y8
	VBROADCASTSS shift+28(FP), Y9
	VXORPS Y0, Y0, Y0
	EXPBOUNDS
	SUBQ $8, CX
	JLT tail
loop:
	VMOVUPS (SI), Y1
	VFMSUB213PS Y9, Y8, Y1
	EXP(Y1)
	VMOVUPS Y1, (DI)
	VADDPS Y1, Y0, Y0
	ADDQ $32, SI
	ADDQ $32, DI
	SUBQ $8, CX
	JGE loop
tail:
	ADDQ $8, CX
	JZ done
	TAIL
	VMASKMOVPS (SI), Y15, Y1
	VFMSUB213PS Y9, Y8, Y1
	EXP(Y1)
	VANDPS Y15, Y1, Y1
	VMASKMOVPS Y1, Y15, (DI)
	VADDPS Y1, Y0, Y0
done:
	SUM(Y0, X0, X1)
	VMOVSS X0, ret+32(FP)
	VZEROUPPER
	RET

// func transposeAVX(dst, src *float32, n, stride, width int)
// Copies 8 rows of n values, stride values apart, to columns: dst[k*width+i] = src[i*stride+k]. n is a multiple of 8.
TEXT ·transposeAVX(SB), NOSPLIT, $0-40
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ stride+24(FP), R8
	MOVQ width+32(FP), R9
	SHLQ $2, R8
	SHLQ $2, R9
	LEAQ (R8)(R8*2), R10
	LEAQ (R9)(R9*2), R11
	SHRQ $3, CX
	JZ done
loop:
	LEAQ (SI)(R8*4), DX
	VMOVUPS (SI), Y0
	VMOVUPS (SI)(R8*1), Y1
	VMOVUPS (SI)(R8*2), Y2
	VMOVUPS (SI)(R10*1), Y3
	VMOVUPS (DX), Y4
	VMOVUPS (DX)(R8*1), Y5
	VMOVUPS (DX)(R8*2), Y6
	VMOVUPS (DX)(R10*1), Y7
	VUNPCKLPS Y1, Y0, Y8
	VUNPCKHPS Y1, Y0, Y9
	VUNPCKLPS Y3, Y2, Y10
	VUNPCKHPS Y3, Y2, Y11
	VUNPCKLPS Y5, Y4, Y12
	VUNPCKHPS Y5, Y4, Y13
	VUNPCKLPS Y7, Y6, Y14
	VUNPCKHPS Y7, Y6, Y15
	VSHUFPS $0x44, Y10, Y8, Y0
	VSHUFPS $0xee, Y10, Y8, Y1
	VSHUFPS $0x44, Y11, Y9, Y2
	VSHUFPS $0xee, Y11, Y9, Y3
	VSHUFPS $0x44, Y14, Y12, Y4
	VSHUFPS $0xee, Y14, Y12, Y5
	VSHUFPS $0x44, Y15, Y13, Y6
	VSHUFPS $0xee, Y15, Y13, Y7
	VPERM2F128 $0x20, Y4, Y0, Y8
	VPERM2F128 $0x20, Y5, Y1, Y9
	VPERM2F128 $0x20, Y6, Y2, Y10
	VPERM2F128 $0x20, Y7, Y3, Y11
	VPERM2F128 $0x31, Y4, Y0, Y12
	VPERM2F128 $0x31, Y5, Y1, Y13
	VPERM2F128 $0x31, Y6, Y2, Y14
	VPERM2F128 $0x31, Y7, Y3, Y15
	LEAQ (DI)(R9*4), DX
	VMOVUPS Y8, (DI)
	VMOVUPS Y9, (DI)(R9*1)
	VMOVUPS Y10, (DI)(R9*2)
	VMOVUPS Y11, (DI)(R11*1)
	VMOVUPS Y12, (DX)
	VMOVUPS Y13, (DX)(R9*1)
	VMOVUPS Y14, (DX)(R9*2)
	VMOVUPS Y15, (DX)(R11*1)
	LEAQ (DX)(R9*4), DI
	ADDQ $32, SI
	DECQ CX
	JNZ loop
done:
	VZEROUPPER
	RET
