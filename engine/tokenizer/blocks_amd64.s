#include "textflag.h"

// Bytes 0 to 7 of a lane give the bit of each: what a VPSHUFB by the lower three bits looks up.
DATA bitOf<>+0(SB)/8, $0x8040201008040201
GLOBL bitOf<>(SB), RODATA|NOPTR, $8

#define BROADCAST(value, to) \
	MOVL $value, R9; \
	VPBROADCASTB R9, to

// LOOKUP finds in a bitmap of 256 bytes the bits that Z3 and Z4 tell, for those of K1.
#define LOOKUP(at, to) \
	VMOVDQU8 at(R8), Z5; \
	VMOVDQU8 at+128(R8), Z6; \
	VMOVDQA64 Z4, Z7; \
	VPERMI2B at+64(R8), Z5, Z7; \
	VMOVDQA64 Z4, Z5; \
	VPERMI2B at+192(R8), Z6, Z5; \
	VMOVDQU8 Z5, K5, Z7; \
	VPTESTMB Z3, Z7, K1, to

// WINDOW settles the characters of a window, of whose second bytes K1 knows. What they are is found at that
// byte, where the places in the bitmaps are those of a character of two bytes.
#define WINDOW(at) \
	LOOKUP(at, K2); \
	LOOKUP(at+256, K3); \
	KSHIFTRQ $1, K1, K1; \
	KMOVQ K1, R11; \
	ANDNQ AX, R11, AX; \
	ANDNQ DX, R11, DX; \
	KSHIFTRQ $1, K2, K2; \
	KMOVQ K2, R11; \
	ORQ  R11, DX; \
	KSHIFTRQ $1, K3, K3; \
	KMOVQ K3, R11; \
	ORQ  R11, AX

// func classify512(masks *classMasks, s *byte, n int, tables *classTables)
TEXT ·classify512(SB), NOSPLIT, $0-32
	MOVQ masks+0(FP), DI
	MOVQ s+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ tables+24(FP), R8
	VMOVDQU8 (R8), Z1       // ascii
	VMOVDQU8 64(R8), Z2
	VMOVDQU8 128(R8), Z17   // two
	VMOVDQU8 192(R8), Z18
	VMOVDQU8 256(R8), Z19
	VMOVDQU8 320(R8), Z20
	VMOVDQU8 384(R8), Z21   // open
	VMOVDQU8 448(R8), Z22
	VMOVDQU8 512(R8), Z23
	VMOVDQU8 576(R8), Z24
	VMOVDQU8 640(R8), Z25   // three
	VMOVDQU8 704(R8), Z26

	// A register for each bit of ascii.
	BROADCAST(1, Z10)
	BROADCAST(2, Z11)
	BROADCAST(4, Z12)
	BROADCAST(8, Z13)
	BROADCAST(16, Z14)
	BROADCAST(32, Z15)
	BROADCAST(0xC0, Z16)
	BROADCAST(0x1F, Z27)
	BROADCAST(7, Z28)
	VPBROADCASTQ bitOf<>(SB), Z29
	BROADCAST(0xE0, Z30)
	BROADCAST(0xF0, Z31)
	BROADCAST(0xE3, Z8)
	BROADCAST(0xA0, Z9)

block:
	VMOVDQU8 (SI), Z0
	VPMOVB2M Z0, K7         // not ASCII
	KXORQ K6, K6, K6
	XORQ AX, AX             // open
	XORQ BX, BX             // letters of two or three bytes
	XORQ DX, DX             // of three
	XORQ R10, R10           // tails
	KTESTQ K7, K7
	JZ   ascii

	VMOVDQU8 1(SI), Z3      // what follows each byte
	VPCMPUB $5, Z16, Z0, K1 // what begins a character
	VPCMPUB $5, Z30, Z0, K2 // of three bytes or more
	VPCMPUB $5, Z31, Z0, K3 // of four
	KANDNQ K7, K1, K4
	KMOVQ K4, R10
	KANDNQ K1, K2, K1       // of two
	KMOVQ K3, AX
	KANDNQ K2, K3, K2       // of three

	// Where it stands in the bitmaps: five bits of the first byte and three of the second, and
	// the other three say which bit.
	VPANDQ Z27, Z0, Z4
	VPSLLW $3, Z4, Z4
	VPSRLW $3, Z3, Z5
	VPANDQ Z28, Z5, Z5
	VPORQ Z5, Z4, Z4
	VPANDQ Z28, Z3, Z3
	VPSHUFB Z3, Z29, Z3
	VPMOVB2M Z4, K5         // in the upper half
	VMOVDQA64 Z4, Z5
	VPERMI2B Z18, Z17, Z5
	VMOVDQA64 Z4, Z6
	VPERMI2B Z20, Z19, Z6
	VMOVDQU8 Z6, K5, Z5
	VPTESTMB Z3, Z5, K1, K6 // letters of two bytes
	VMOVDQA64 Z4, Z5
	VPERMI2B Z22, Z21, Z5
	VMOVDQA64 Z4, Z6
	VPERMI2B Z24, Z23, Z6
	VMOVDQU8 Z6, K5, Z5
	VPTESTMB Z3, Z5, K1, K4 // open of two bytes
	VMOVDQA64 Z4, Z5
	VPERMI2B Z26, Z25, Z5
	VPTESTMB Z3, Z5, K2, K3 // letters of three bytes
	KANDNQ K2, K3, K2       // open of three bytes
	KORQ K4, K2, K2
	KMOVQ K2, R11
	ORQ  R11, AX
	KMOVQ K3, DX
	KMOVQ K6, BX

	VPCMPUB $0, Z30, Z0, K1
	KSHIFTLQ $1, K1, K1     // the second bytes behind 0xE0
	KTESTQ K1, K1
	JZ   kana
	WINDOW(1152)

kana:
	VPCMPUB $0, Z8, Z0, K1
	KSHIFTLQ $1, K1, K1
	KTESTQ K1, K1
	JZ   letters
	VPCMPUB $1, Z9, Z0, K1, K1 // below 0xA0
	WINDOW(1664)

letters:
	ORQ  DX, BX

ascii:
	KNOTQ K7, K7
	VPERMI2B.Z Z2, Z1, K7, Z0
	VPTESTMB Z10, Z0, K1
	VPTESTMB Z11, Z0, K2
	VPTESTMB Z12, Z0, K3
	VPTESTMB Z13, Z0, K4
	VPTESTMB Z14, Z0, K5
	VPTESTMB Z15, Z0, K6

	// A letter of two bytes has the next one, of three the two next.
	KMOVQ K1, R11
	ORQ  BX, R11
	LEAQ (BX)(BX*1), R12
	ORQ  R12, R11
	LEAQ (DX*4), R12
	ORQ  R12, R11
	MOVQ R11, (DI)
	KMOVQ K2, 8(DI)
	KMOVQ K3, 16(DI)
	KMOVQ K4, 24(DI)
	KMOVQ K5, 32(DI)
	KMOVQ K6, 40(DI)
	MOVQ AX, 48(DI)
	MOVQ R10, 56(DI)
	SHRQ $63, BX
	SHRQ $62, DX
	ORQ  DX, BX
	MOVQ BX, 64(DI)
	ADDQ $72, DI
	ADDQ $64, SI
	DECQ CX
	JNZ  block
	VZEROUPPER
	RET

// What can be wrong with two bytes in a row, a bit each: by the upper half of the first, the
// lower half of the first, the upper half of the second. What all three say is. (Keiser, Lemire:
// Validating UTF-8 In Less Than One Instruction Per Byte, table 8.)
DATA wrong<>+0(SB)/8, $0x0202020202020202
DATA wrong<>+8(SB)/8, $0x4915012180808080
DATA wrong<>+16(SB)/8, $0xCBCBCB8B8383A3E7
DATA wrong<>+24(SB)/8, $0xCBCBDBCBCBCBCBCB
DATA wrong<>+32(SB)/8, $0x0101010101010101
DATA wrong<>+40(SB)/8, $0x01010101BABAAEE6
GLOBL wrong<>(SB), RODATA|NOPTR, $48

// 63 to 126: each byte's predecessor in two vectors.
DATA before<>+0(SB)/8, $0x464544434241403F
DATA before<>+8(SB)/8, $0x4E4D4C4B4A494847
DATA before<>+16(SB)/8, $0x565554535251504F
DATA before<>+24(SB)/8, $0x5E5D5C5B5A595857
DATA before<>+32(SB)/8, $0x666564636261605F
DATA before<>+40(SB)/8, $0x6E6D6C6B6A696867
DATA before<>+48(SB)/8, $0x767574737271706F
DATA before<>+56(SB)/8, $0x7E7D7C7B7A797877
GLOBL before<>(SB), RODATA|NOPTR, $64

// func settled512(s *byte, n int, tables *classTables) int
TEXT ·settled512(SB), NOSPLIT, $0-32
	MOVQ s+0(FP), SI
	MOVQ n+8(FP), CX
	MOVQ tables+16(FP), R8
	VBROADCASTI32X4 wrong<>+0(SB), Z10
	VBROADCASTI32X4 wrong<>+16(SB), Z11
	VBROADCASTI32X4 wrong<>+32(SB), Z12
	VMOVDQU8 before<>(SB), Z13
	BROADCAST(1, Z9)
	VPSUBB Z9, Z13, Z14     // the one before that
	BROADCAST(0x0F, Z15)
	BROADCAST(0xC0, Z16)
	VMOVDQU8 768(R8), Z17   // doubtfulTwo
	VMOVDQU8 832(R8), Z18
	VMOVDQU8 896(R8), Z19
	VMOVDQU8 960(R8), Z20
	VMOVDQU8 1024(R8), Z21  // doubtfulMore
	VMOVDQU8 1088(R8), Z22
	BROADCAST(0x80, Z23)
	BROADCAST(0x60, Z24)
	BROADCAST(0x1F, Z27)
	BROADCAST(7, Z28)
	VPBROADCASTQ bitOf<>(SB), Z29
	BROADCAST(0xE0, Z30)
	BROADCAST(0xF0, Z31)
	VPXORQ Z0, Z0, Z0       // the block before
	XORQ AX, AX

settle:
	CMPQ AX, CX
	JGE  settled
	VMOVDQU8 (SI), Z1
	VPORQ Z0, Z1, Z2
	VPMOVB2M Z2, K1
	KTESTQ K1, K1
	JZ   next               // ASCII, and nothing to go on with

	VMOVDQA64 Z13, Z2
	VPERMI2B Z1, Z0, Z2     // the byte before each
	VMOVDQA64 Z14, Z3
	VPERMI2B Z1, Z0, Z3     // the one before that
	VPSRLW $4, Z2, Z4
	VPANDQ Z15, Z4, Z4
	VPSHUFB Z4, Z10, Z4
	VPANDQ Z15, Z2, Z5
	VPSHUFB Z5, Z11, Z5
	VPSRLW $4, Z1, Z6
	VPANDQ Z15, Z6, Z6
	VPSHUFB Z6, Z12, Z6
	VPTERNLOGQ $0x80, Z5, Z6, Z4 // all three
	VPSUBUSB Z24, Z3, Z5    // the third of a character has 0x80
	VPANDQ Z23, Z5, Z5
	VPXORQ Z5, Z4, Z4
	VPTESTMB Z4, Z4, K1     // wrong
	VPCMPUB $5, Z31, Z1, K2 // four bytes: let others look
	KORTESTQ K1, K2
	JNZ  settled

	VPCMPUB $5, Z16, Z2, K1 // the second of a character
	VPCMPUB $5, Z30, Z2, K2 // of three bytes
	KANDNQ K1, K2, K1       // of two
	VPANDQ Z27, Z2, Z4      // where it stands in the bitmaps, as in classify512
	VPSLLW $3, Z4, Z4
	VPSRLW $3, Z1, Z5
	VPANDQ Z28, Z5, Z5
	VPORQ Z5, Z4, Z4
	VPANDQ Z28, Z1, Z3
	VPSHUFB Z3, Z29, Z3
	VPMOVB2M Z4, K5
	VMOVDQA64 Z4, Z5
	VPERMI2B Z18, Z17, Z5
	VMOVDQA64 Z4, Z6
	VPERMI2B Z20, Z19, Z6
	VMOVDQU8 Z6, K5, Z5
	VPTESTMB Z3, Z5, K1, K1
	VPERMI2B Z22, Z21, Z4
	VPTESTMB Z3, Z4, K2, K2
	KORTESTQ K1, K2
	JNZ  settled

next:
	VMOVDQA64 Z1, Z0
	ADDQ $64, SI
	INCQ AX
	JMP  settle

settled:
	VZEROUPPER
	MOVQ AX, ret+24(FP)
	RET

// The numbers 0 to 63.
DATA places<>+0(SB)/8, $0x0706050403020100
DATA places<>+8(SB)/8, $0x0F0E0D0C0B0A0908
DATA places<>+16(SB)/8, $0x1716151413121110
DATA places<>+24(SB)/8, $0x1F1E1D1C1B1A1918
DATA places<>+32(SB)/8, $0x2726252423222120
DATA places<>+40(SB)/8, $0x2F2E2D2C2B2A2928
DATA places<>+48(SB)/8, $0x3736353433323130
DATA places<>+56(SB)/8, $0x3F3E3D3C3B3A3938
GLOBL places<>(SB), RODATA|NOPTR, $64

// STORE writes 16 positions: numbers in a quarter of Z1, and Z4 added.
#define STORE(quarter, to) \
	VEXTRACTI32X4 $quarter, Z1, X2; \
	VPMOVZXBD X2, Z2; \
	VPADDD Z4, Z2, Z2; \
	VMOVDQU32 Z2, to

// func positions512(dst *uint32, masks *uint64, n int, from uint32) int
//
// Half of the 64 positions are written for every mask, since most have fewer: that spares a branch.
TEXT ·positions512(SB), NOSPLIT, $0-40
	MOVQ dst+0(FP), DI
	MOVQ masks+8(FP), SI
	MOVQ n+16(FP), CX
	MOVL from+24(FP), BX
	MOVQ DI, R15
	VMOVDQU8 places<>(SB), Z0
	VPBROADCASTD BX, Z4
	MOVL $64, R9
	VPBROADCASTD R9, Z5

mask:
	MOVQ (SI), AX
	KMOVQ AX, K1
	POPCNTQ AX, DX
	VPCOMPRESSB.Z Z0, K1, Z1
	STORE(0, (DI))
	STORE(1, 64(DI))
	CMPQ DX, $32
	JLS  written
	STORE(2, 128(DI))
	STORE(3, 192(DI))

written:
	LEAQ (DI)(DX*4), DI
	VPADDD Z5, Z4, Z4
	ADDQ $8, SI
	DECQ CX
	JNZ  mask
	VZEROUPPER
	SUBQ R15, DI
	SHRQ $2, DI
	MOVQ DI, ret+32(FP)
	RET
