package cpu

import "unsafe"

//go:noescape
func tile6x16NEON(t *tile)

//go:noescape
func tile3x16NEON(t *tile)

// kernels are those that this processor can run, best first. Go asks every arm64 processor for NEON.
func kernels() []*kernel {
	return []*kernel{{name: "neon", nr: 16, step: 3, vec: true, run: [][2]func(*tile){{tile3x16, tile3x16}, {tile6x16, tile6x16}}}, goKernel()}
}

func tile6x16(t *tile) {
	if t.cols == 16 {
		tile6x16NEON(t)
		return
	}
	var edge [6 * 16]float32
	var bias [16]float32
	all := t.whole(&edge[0], &bias)
	tile6x16NEON(&all)
	t.put(edge[:])
}

func tile3x16(t *tile) {
	if t.cols == 16 {
		tile3x16NEON(t)
		return
	}
	var edge [3 * 16]float32
	var bias [16]float32
	all := t.whole(&edge[0], &bias)
	tile3x16NEON(&all)
	t.put(edge[:])
}

// whole is the tile with all of its 16 columns, whose sums go to edge, from where put takes those that exist: NEON has no masks.
func (t *tile) whole(edge *float32, bias *[16]float32) tile {
	all := *t
	all.c, all.ldc, all.cols, all.skip, all.add = edge, 16*4, 16, 0, 0
	if t.bias != nil {
		copy(bias[:], floats(t.bias, t.cols))
		all.bias = &bias[0]
	}
	return all
}

// put sets or adds the columns of C that exist to the sums in edge.
func (t *tile) put(edge []float32) {
	for row := t.skip; row < len(edge)/16; row++ {
		line, from := floats(t.at(row), t.cols), edge[row*16:]
		for i := range line {
			if t.add != 0 {
				line[i] += from[i]
			} else {
				line[i] = from[i]
			}
		}
	}
}

// at is the first value of a row of C.
func (t *tile) at(row int) *float32 { return (*float32)(unsafe.Add(unsafe.Pointer(t.c), row*t.ldc)) }
