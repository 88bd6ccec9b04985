#include "vector_amd64.h"

// The functions that need exp. See vector_amd64.s.

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
