// The instructions of AMX-TILE and AMX-BF16, which Go's assembler does not know, with registers by number (Intel SDM, volume 2: VEX
// prefixes of three bytes; a tile in memory is its first row's address in base and the rows' distance in index).

#define VEX3(index, base, v, prefix) \
	BYTE $0xC4; \
	BYTE $(0x82 | (((((index)>>3)&1)^1)<<6) | (((((base)>>3)&1)^1)<<5)); \
	BYTE $(((15-(v))<<3) | prefix)

#define MEMORY(t, base, index, offset) \
	BYTE $(0x44 | ((t)<<3)); \
	BYTE $((((index)&7)<<3) | ((base)&7)); \
	BYTE $offset

// LDTILECFG (AX)
#define LDTILECFG_AX VEX3(0, 0, 0, 0); BYTE $0x49; BYTE $0x00

#define TILERELEASE VEX3(0, 0, 0, 0); BYTE $0x49; BYTE $0xC0

#define TILELOADD(base, index, offset, t) VEX3(index, base, 0, 3); BYTE $0x4B; MEMORY(t, base, index, offset)

#define TILESTORED(t, base, index, offset) VEX3(index, base, 0, 2); BYTE $0x4B; MEMORY(t, base, index, offset)

// c += a·b, each number of c as amx.go says.
#define TDPBF16PS(b, a, c) VEX3(0, 0, b, 2); BYTE $0x5C; BYTE $(0xC0 | ((c)<<3) | (a))
