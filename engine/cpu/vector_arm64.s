#include "neon_arm64.h"

// Vector functions in NEON, four values at a time; the last values take the same instructions one by one. The arithmetic of each
// value is that of vector_amd64.s, so the bits are the same. Formulas stand beside their twins in vector.go.

// func addNEON(out, a, b *float32, n int)
TEXT ·addNEON(SB), NOSPLIT, $0-32
	MOVD out+0(FP), R0
	MOVD a+8(FP), R1
	MOVD b+16(FP), R2
	MOVD n+24(FP), R9
	SUBS $4, R9
	BLT  tail
loop:
	FMOVQ.P 16(R1), F0
	FMOVQ.P 16(R2), F1
	FADD4(1, 0, 0)
	FMOVQ.P F0, 16(R0)
	SUBS $4, R9
	BGE  loop
tail:
	ADDS $4, R9
	BEQ  done
one:
	FMOVS.P 4(R1), F0
	FMOVS.P 4(R2), F1
	FADD4(1, 0, 0)
	FMOVS.P F0, 4(R0)
	SUBS $1, R9
	BNE  one
done:
	RET

// func scaleNEON(out, a *float32, n int, s float32)
TEXT ·scaleNEON(SB), NOSPLIT, $0-28
	MOVD out+0(FP), R0
	MOVD a+8(FP), R1
	MOVD n+16(FP), R9
	FMOVS s+24(FP), F16
	ALL4(16, 16)
	SUBS $4, R9
	BLT  tail
loop:
	FMOVQ.P 16(R1), F0
	FMUL4(16, 0, 0)
	FMOVQ.P F0, 16(R0)
	SUBS $4, R9
	BGE  loop
tail:
	ADDS $4, R9
	BEQ  done
one:
	FMOVS.P 4(R1), F0
	FMUL4(16, 0, 0)
	FMOVS.P F0, 4(R0)
	SUBS $1, R9
	BNE  one
done:
	RET

// func normNEON(out, x, w *float32, n int, r float32)
TEXT ·normNEON(SB), NOSPLIT, $0-36
	MOVD out+0(FP), R0
	MOVD x+8(FP), R1
	MOVD w+16(FP), R2
	MOVD n+24(FP), R9
	FMOVS r+32(FP), F16
	ALL4(16, 16)
	SUBS $4, R9
	BLT  tail
loop:
	FMOVQ.P 16(R1), F0
	FMOVQ.P 16(R2), F1
	FMUL4(16, 0, 0)
	FMUL4(1, 0, 0)
	FMOVQ.P F0, 16(R0)
	SUBS $4, R9
	BGE  loop
tail:
	ADDS $4, R9
	BEQ  done
one:
	FMOVS.P 4(R1), F0
	FMOVS.P 4(R2), F1
	FMUL4(16, 0, 0)
	FMUL4(1, 0, 0)
	FMOVS.P F0, 4(R0)
	SUBS $1, R9
	BNE  one
done:
	RET

// V0 += V1·V2·r - V3·s, with r in V16 and s in V17.
#define NORMBACK \
	FMUL4(2, 1, 1);  \
	FMLA4(16, 1, 0); \
	FMLS4(17, 3, 0)

// func normBackNEON(dx, dy, w, x *float32, n int, r, s float32)
TEXT ·normBackNEON(SB), NOSPLIT, $0-48
	MOVD dx+0(FP), R0
	MOVD dy+8(FP), R1
	MOVD w+16(FP), R2
	MOVD x+24(FP), R3
	MOVD n+32(FP), R9
	FMOVS r+40(FP), F16
	FMOVS s+44(FP), F17
	ALL4(16, 16)
	ALL4(17, 17)
	SUBS $4, R9
	BLT  tail
loop:
	FMOVQ   (R0), F0
	FMOVQ.P 16(R1), F1
	FMOVQ.P 16(R2), F2
	FMOVQ.P 16(R3), F3
	NORMBACK
	FMOVQ.P F0, 16(R0)
	SUBS $4, R9
	BGE  loop
tail:
	ADDS $4, R9
	BEQ  done
one:
	FMOVS   (R0), F0
	FMOVS.P 4(R1), F1
	FMOVS.P 4(R2), F2
	FMOVS.P 4(R3), F3
	NORMBACK
	FMOVS.P F0, 4(R0)
	SUBS $1, R9
	BNE  one
done:
	RET

// func mulAddNEON(out, a, b *float32, n int, s float32)
TEXT ·mulAddNEON(SB), NOSPLIT, $0-36
	MOVD out+0(FP), R0
	MOVD a+8(FP), R1
	MOVD b+16(FP), R2
	MOVD n+24(FP), R9
	FMOVS s+32(FP), F16
	ALL4(16, 16)
	SUBS $4, R9
	BLT  tail
loop:
	FMOVQ   (R0), F0
	FMOVQ.P 16(R1), F1
	FMOVQ.P 16(R2), F2
	FMUL4(16, 1, 1)
	FMLA4(2, 1, 0)
	FMOVQ.P F0, 16(R0)
	SUBS $4, R9
	BGE  loop
tail:
	ADDS $4, R9
	BEQ  done
one:
	FMOVS   (R0), F0
	FMOVS.P 4(R1), F1
	FMOVS.P 4(R2), F2
	FMUL4(16, 1, 1)
	FMLA4(2, 1, 0)
	FMOVS.P F0, 4(R0)
	SUBS $1, R9
	BNE  one
done:
	RET

// V0 = V0·s·(V1-delta), with delta in V16 and s in V17.
#define SOFTBACK \
	FSUB4(16, 1, 1); \
	FMUL4(17, 0, 0); \
	FMUL4(1, 0, 0)

// func softBackNEON(ds, p, dp *float32, n int, delta, s float32)
TEXT ·softBackNEON(SB), NOSPLIT, $0-40
	MOVD ds+0(FP), R0
	MOVD p+8(FP), R1
	MOVD dp+16(FP), R2
	MOVD n+24(FP), R9
	FMOVS delta+32(FP), F16
	FMOVS s+36(FP), F17
	ALL4(16, 16)
	ALL4(17, 17)
	SUBS $4, R9
	BLT  tail
loop:
	FMOVQ.P 16(R1), F0
	FMOVQ.P 16(R2), F1
	SOFTBACK
	FMOVQ.P F0, 16(R0)
	SUBS $4, R9
	BGE  loop
tail:
	ADDS $4, R9
	BEQ  done
one:
	FMOVS.P 4(R1), F0
	FMOVS.P 4(R2), F1
	SOFTBACK
	FMOVS.P F0, 4(R0)
	SUBS $1, R9
	BNE  one
done:
	RET

// V4, V5 = the pair V0, V1 turned by the angle of cosine V2 and sine V3; sign in V16.
#define ROTATE \
	FMUL4(16, 3, 3); \
	FMUL4(2, 0, 4);  \
	FMUL4(2, 1, 5);  \
	FMLS4(3, 1, 4);  \
	FMLA4(3, 0, 5)

// func rotateNEON(lo, hi, cos, sin *float32, n int, sign float32)
TEXT ·rotateNEON(SB), NOSPLIT, $0-44
	MOVD lo+0(FP), R0
	MOVD hi+8(FP), R1
	MOVD cos+16(FP), R2
	MOVD sin+24(FP), R3
	MOVD n+32(FP), R9
	FMOVS sign+40(FP), F16
	ALL4(16, 16)
	SUBS $4, R9
	BLT  tail
loop:
	FMOVQ   (R0), F0
	FMOVQ   (R1), F1
	FMOVQ.P 16(R2), F2
	FMOVQ.P 16(R3), F3
	ROTATE
	FMOVQ.P F4, 16(R0)
	FMOVQ.P F5, 16(R1)
	SUBS $4, R9
	BGE  loop
tail:
	ADDS $4, R9
	BEQ  done
one:
	FMOVS   (R0), F0
	FMOVS   (R1), F1
	FMOVS.P 4(R2), F2
	FMOVS.P 4(R3), F3
	ROTATE
	FMOVS.P F4, 4(R0)
	FMOVS.P F5, 4(R1)
	SUBS $1, R9
	BNE  one
done:
	RET

// A step of AdamW on p, m, v in V0, V1, V2 with the gradient in V3: the numbers of type adam are in V16 to V23.
#define ADAMW \
	FMUL4(17, 3, 3); \
	FSUB4(1, 3, 4);  \
	FMLA4(18, 4, 1); \
	FMUL4(3, 3, 4);  \
	FMUL4(19, 4, 4); \
	FMLA4(20, 2, 4); \
	MOVE4(4, 2);     \
	FSQRT4(4, 4);    \
	FDIV4(22, 4, 4); \
	FADD4(23, 4, 4); \
	FDIV4(4, 1, 4);  \
	FMUL4(16, 0, 0); \
	FMLS4(21, 4, 0)

// func adamwNEON(p, m, v, grad *float32, n int, keep, scale, b1, b2, beta2, step, root, eps float32)
TEXT ·adamwNEON(SB), NOSPLIT, $0-72
	MOVD p+0(FP), R0
	MOVD m+8(FP), R1
	MOVD v+16(FP), R2
	MOVD grad+24(FP), R3
	MOVD n+32(FP), R9
	FMOVS keep+40(FP), F16
	FMOVS scale+44(FP), F17
	FMOVS b1+48(FP), F18
	FMOVS b2+52(FP), F19
	FMOVS beta2+56(FP), F20
	FMOVS step+60(FP), F21
	FMOVS root+64(FP), F22
	FMOVS eps+68(FP), F23
	ALL4(16, 16)
	ALL4(17, 17)
	ALL4(18, 18)
	ALL4(19, 19)
	ALL4(20, 20)
	ALL4(21, 21)
	ALL4(22, 22)
	ALL4(23, 23)
	SUBS $4, R9
	BLT  tail
loop:
	FMOVQ   (R0), F0
	FMOVQ   (R1), F1
	FMOVQ   (R2), F2
	FMOVQ.P 16(R3), F3
	ADAMW
	FMOVQ.P F0, 16(R0)
	FMOVQ.P F1, 16(R1)
	FMOVQ.P F2, 16(R2)
	SUBS $4, R9
	BGE  loop
tail:
	ADDS $4, R9
	BEQ  done
one:
	FMOVS   (R0), F0
	FMOVS   (R1), F1
	FMOVS   (R2), F2
	FMOVS.P 4(R3), F3
	ADAMW
	FMOVS.P F0, 4(R0)
	FMOVS.P F1, 4(R1)
	FMOVS.P F2, 4(R2)
	SUBS $1, R9
	BNE  one
done:
	RET
