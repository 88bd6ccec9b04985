#include "textflag.h"

// func leastAVX2(least, mul, shift *[112]uint64, hashes *uint64, n int)
//
// Eight permutations at a time stay in registers while all hashes pass. A product of 64 bits is put together from three of 32:
// its upper half of 64 bits is not needed.
TEXT ·leastAVX2(SB), NOSPLIT, $0-40
	MOVQ least+0(FP), DI
	MOVQ mul+8(FP), SI
	MOVQ shift+16(FP), DX
	MOVQ hashes+24(FP), R8
	MOVQ n+32(FP), R9
	MOVQ $14, R10

group:
	VMOVDQU (SI), Y0
	VMOVDQU 32(SI), Y1
	VPSRLQ  $32, Y0, Y2
	VPSRLQ  $32, Y1, Y3
	VMOVDQU (DX), Y4
	VMOVDQU 32(DX), Y5
	VPCMPEQD Y6, Y6, Y6
	VPCMPEQD Y7, Y7, Y7
	MOVQ    R8, R11
	MOVQ    R9, R12

hash:
	VPBROADCASTQ (R11), Y8
	VPSRLQ   $32, Y8, Y9
	VPMULUDQ Y8, Y0, Y10
	VPMULUDQ Y8, Y2, Y11
	VPMULUDQ Y9, Y0, Y12
	VPMULUDQ Y8, Y1, Y13
	VPMULUDQ Y8, Y3, Y14
	VPMULUDQ Y9, Y1, Y15
	VPADDQ   Y12, Y11, Y11
	VPADDQ   Y15, Y14, Y14
	VPSLLQ   $32, Y11, Y11
	VPSLLQ   $32, Y14, Y14
	VPADDQ   Y4, Y10, Y10
	VPADDQ   Y5, Y13, Y13
	VPADDQ   Y11, Y10, Y10
	VPADDQ   Y14, Y13, Y13
	VPSRLQ   $32, Y10, Y10
	VPSRLQ   $32, Y13, Y13
	VPMINUD  Y10, Y6, Y6
	VPMINUD  Y13, Y7, Y7
	ADDQ     $8, R11
	DECQ     R12
	JNZ      hash

	VMOVDQU Y6, (DI)
	VMOVDQU Y7, 32(DI)
	ADDQ    $64, DI
	ADDQ    $64, SI
	ADDQ    $64, DX
	DECQ    R10
	JNZ     group
	VZEROUPPER
	RET
