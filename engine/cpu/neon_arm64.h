// Instructions of Advanced SIMD (NEON) on four lanes that Go's assembler does not know, on registers by number: sources first and
// the destination last, as Go writes them, so that FSUB4(m, n, d) is d = n - m. Arm Architecture Reference Manual (DDI 0487), C7.2.

#include "textflag.h"

#define NEON3(op, m, n, d) WORD $(op | (m)<<16 | (n)<<5 | (d))
#define NEON2(op, n, d)    WORD $(op | (n)<<5 | (d))

// float32
#define FADD4(m, n, d)  NEON3(0x4e20d400, m, n, d)
#define FSUB4(m, n, d)  NEON3(0x4ea0d400, m, n, d)
#define FMUL4(m, n, d)  NEON3(0x6e20dc00, m, n, d)
#define FDIV4(m, n, d)  NEON3(0x6e20fc00, m, n, d)
#define FMAX4(m, n, d)  NEON3(0x4e20f400, m, n, d)
#define FMIN4(m, n, d)  NEON3(0x4ea0f400, m, n, d)
#define FSQRT4(n, d)    NEON2(0x6ea1f800, n, d)
#define FNEG4(n, d)     NEON2(0x6ea0f800, n, d)
#define FROUND4(n, d)   NEON2(0x4e218800, n, d) // to a whole number, the nearest, ties to even
#define FMLA4(m, n, d)  NEON3(0x4e20cc00, m, n, d) // d += n·m, rounded once
#define FMLS4(m, n, d)  NEON3(0x4ea0cc00, m, n, d) // d -= n·m, rounded once
#define FMLA1(m, n, d)  NEON3(0x4f801000, m, n, d) // d += n·(the lowest lane of m), rounded once
#define FPAIRS4(m, n, d) NEON3(0x6e20d400, m, n, d) // d = n0+n1, n2+n3, m0+m1, m2+m3
#define FSAME4(m, n, d) NEON3(0x4e20e400, m, n, d) // d = all ones where n = m

// 32-bit integers and bits
#define FTOI4(n, d)     NEON2(0x4e21a800, n, d) // float32 to the nearest integer
#define IADD4(m, n, d)  NEON3(0x4ea08400, m, n, d)
#define ISAME4(m, n, d) NEON3(0x6ea08c00, m, n, d)
#define ILEFT4(by, n, d)  WORD $(0x4f005400 | (32+by)<<16 | (n)<<5 | (d))
#define IRIGHT4(by, n, d) WORD $(0x6f000400 | (64-by)<<16 | (n)<<5 | (d))
#define AND4(m, n, d)   NEON3(0x4e201c00, m, n, d)
#define OR4(m, n, d)    NEON3(0x4ea01c00, m, n, d)
#define MOVE4(n, d)     OR4(n, n, d)
#define ZERO4(d)        NEON3(0x6e201c00, d, d, d)
#define WHERE4(m, n, d)   NEON3(0x6ea01c00, m, n, d) // the bits of n where m has ones
#define WHERENOT4(m, n, d) NEON3(0x6ee01c00, m, n, d) // the bits of n where m has zeros
#define SWAP4(n, d)     NEON2(0x4ea00800, n, d) // neighbours changed over
#define ALL4(n, d)      NEON2(0x4e040400, n, d) // the lowest lane in all four

// bfloat16 in eight lanes of 16 bits to float32: z is zero, so that a lane of n gets 16 zero bits below.
#define WIDENLOW4(n, z, d)  NEON3(0x4e403800, n, z, d)
#define WIDENHIGH4(n, z, d) NEON3(0x4e407800, n, z, d)
