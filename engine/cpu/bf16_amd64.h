// The instructions of AVX512_BF16, which Go's assembler does not know, on 512-bit registers by number (Intel SDM, volume 2: EVEX
// prefix and VDPBF16PS, VCVTNE2PS2BF16).

#define EVEX512(op, prefix, m, v, d) \
	BYTE $0x62; \
	BYTE $((((((d)>>3)&1)^1)<<7) | (((((m)>>4)&1)^1)<<6) | (((((m)>>3)&1)^1)<<5) | (((((d)>>4)&1)^1)<<4) | 2); \
	BYTE $(((15-((v)&15))<<3) | 4 | prefix); \
	BYTE $(0x40 | (((((v)>>4)&1)^1)<<3)); \
	BYTE $op; \
	BYTE $(0xC0 | (((d)&7)<<3) | ((m)&7))

// d += v·m in each lane, of two products: first that of the odd values, then that of the even ones, each a fused multiply-add.
#define VDPBF16PS(m, v, d) EVEX512(0x52, 2, m, v, d)

// d = the float32 lanes of m, then those of v, as bfloat16.
#define VCVTNE2PS2BF16(m, v, d) EVEX512(0x72, 3, m, v, d)
