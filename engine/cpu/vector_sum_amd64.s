#include "vector_amd64.h"

// The functions that give one value, and those that move values: transpose and widen. See vector_amd64.s.

DATA lowest<>+0(SB)/8, $0xff800000ff800000
DATA lowest<>+8(SB)/8, $0xff800000ff800000
DATA lowest<>+16(SB)/8, $0xff800000ff800000
DATA lowest<>+24(SB)/8, $0xff800000ff800000
GLOBL lowest<>(SB), RODATA|NOPTR, $32

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

// func transposeAVX(dst, src *float32, n, stride, width int)
// Copies 8 rows of n values, stride values apart, to columns: dst[k*width+i] = src[i*stride+k]. n is a multiple of 8. What follows in
// the rows is fetched.
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
	PREFETCHT0 256(SI)
	PREFETCHT0 256(SI)(R8*1)
	PREFETCHT0 256(SI)(R8*2)
	PREFETCHT0 256(SI)(R10*1)
	PREFETCHT0 256(DX)
	PREFETCHT0 256(DX)(R8*1)
	PREFETCHT0 256(DX)(R8*2)
	PREFETCHT0 256(DX)(R10*1)
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

// func widenAVX(dst *float32, src *uint16, n int)
// bfloat16 to float32; n is a multiple of 8.
TEXT ·widenAVX(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	SHRQ $3, CX
	JZ done
loop:
	VPMOVZXWD (SI), Y0
	VPSLLD $16, Y0, Y0
	VMOVUPS Y0, (DI)
	ADDQ $16, SI
	ADDQ $32, DI
	DECQ CX
	JNZ loop
done:
	VZEROUPPER
	RET
