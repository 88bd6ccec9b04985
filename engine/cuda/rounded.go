package cuda

import "lpipe/engine/ops"

var _ ops.Rounder = (*Device)(nil)

// Rounded is the length of N rows of C values in bfloat16, each with room for what adapters put beside it.
func (d *Device) Rounded(w ops.Weight, N, C int) int {
	if !isHalf(w.Type) {
		return 0
	}
	return N * d.roundedRow(C) / 2
}

func (d *Device) roundedRow(C int) int { return round8(C) + d.o.Border }

// input is x [N, C] of a linear, or dy, rounded or as it is.
func (d *Device) input(x ops.Buf, N, C int) matrix {
	if !x.Half {
		return matrix{d.f(x, N*C), C, false}
	}
	ld := d.roundedRow(C)
	return matrix{d.address(x, N*ld/2), ld, true}
}

// output is where a kernel leaves [N, C]: float32, or rounded rows of ld values.
func (d *Device) output(out ops.Buf, N, C int) (float, half Pointer, ld int) {
	m := d.input(out, N, C)
	if m.half {
		return 0, m.p, m.ld
	}
	return m.p, 0, m.ld
}

// operandOf is operand for values that may be rounded already.
func (d *Device) operandOf(x matrix, half bool, n, cols int) matrix {
	if x.half || !half {
		return x
	}
	return d.half(x.p, 0, 1, n, x.ld, cols, round8(cols))
}
