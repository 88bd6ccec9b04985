//go:build amd64

package cpu

import (
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"testing"
	"unsafe"
)

// machine executes the few instructions that the functions of amx_amd64.s have, from their assembled bytes, so that any processor can
// test them. It stops at what a processor with AMX would refuse.
type machine struct {
	code    uintptr
	arg     uint64 // at 8(SP)
	reg     [16]uint64
	zero    bool
	running bool
	config  tileConfig
	tiles   [8][16][16]uint32
	err     error
}

// interpreted is a function of blocks as the machine runs it.
func interpreted(t *testing.T, f func(*blockCall)) func(*blockCall) {
	code := assembled(t, f)
	return func(b *blockCall) {
		m := &machine{code: code, arg: uint64(uintptr(unsafe.Pointer(b)))}
		for m.running = true; m.running && m.err == nil; {
			m.step()
		}
		runtime.KeepAlive(b)
		if m.err == nil && m.config.palette != 0 {
			m.err = fmt.Errorf("tile registers are not released")
		}
		if m.err != nil {
			panic(m.err)
		}
	}
}

// assembled is where a function's assembly begins: its value in Go is a wrapper that calls it.
func assembled(t *testing.T, f func(*blockCall)) uintptr {
	wrapper := reflect.ValueOf(f).Pointer()
	name := runtime.FuncForPC(wrapper).Name()
	for at := wrapper; at < wrapper+200; at++ {
		if *(*byte)(pointer(at)) != 0xe8 {
			continue
		}
		to := at + 5 + uintptr(*(*int32)(pointer(at + 1)))
		if g := runtime.FuncForPC(to); g != nil && g.Entry() == to && g.Name() == name {
			return to
		}
	}
	t.Fatalf("no call of the assembly in %s", name)
	return 0
}

func pointer(at uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&at)) }

func (m *machine) next() byte {
	m.code++
	return *(*byte)(pointer(m.code - 1))
}

func (m *machine) next32() int32 {
	m.code += 4
	return *(*int32)(pointer(m.code - 4))
}

// step executes one instruction (Intel SDM, volume 2).
func (m *machine) step() {
	op, rex := m.next(), byte(0)
	if op == 0xc4 {
		m.vector()
		return
	}
	if op&0xf0 == 0x40 {
		rex, op = op, m.next()
	}
	switch op {
	case 0xc3: // RET
		m.running = false
		return
	case 0x75, 0x0f: // JNZ
		to := int32(0)
		if op == 0x75 {
			to = int32(int8(m.next()))
		} else if m.next() != 0x85 {
			m.err = fmt.Errorf("jump other than JNZ")
		} else {
			to = m.next32()
		}
		if !m.zero {
			m.code += uintptr(to)
		}
		return
	}
	if rex&8 == 0 {
		m.err = fmt.Errorf("opcode %#x without 64 bits", op)
		return
	}
	m.integer(op, m.operands(rex>>2&1, rex>>1&1, rex&1))
}

// operand is what ModRM and SIB say.
type operand struct {
	reg, rm, index int // index is -1 without SIB
	memory         bool
	at             uint64
	stack          bool // relative to SP
}

func (m *machine) operands(r, x, b byte) (o operand) {
	modrm := m.next()
	mod := modrm >> 6
	o = operand{reg: int(modrm>>3&7 | r<<3), rm: int(modrm&7 | b<<3), index: -1, memory: mod != 3}
	if !o.memory {
		return o
	}
	if modrm&7 == 4 {
		sib := m.next()
		if index := int(sib>>3&7 | x<<3); index != 4 {
			o.index = index
		}
		o.rm = int(sib&7 | b<<3)
		if sib>>6 != 0 {
			m.err = fmt.Errorf("scaled index")
		}
	}
	if mod == 0 && o.rm&7 == 5 {
		m.err = fmt.Errorf("address without a register")
	}
	o.at, o.stack = m.reg[o.rm], o.rm == 4
	switch mod {
	case 1:
		o.at += uint64(int8(m.next()))
	case 2:
		o.at += uint64(m.next32())
	}
	return o
}

func (m *machine) integer(op byte, o operand) {
	read := func() uint64 {
		switch {
		case !o.memory:
			return m.reg[o.rm]
		case o.stack && o.at == 8:
			return m.arg
		}
		return *(*uint64)(pointer(uintptr(o.at)))
	}
	if o.memory && op != 0x8b && op != 0x03 {
		m.err = fmt.Errorf("opcode %#x writes to memory", op)
		return
	}
	switch {
	case op == 0x8b: // MOV r, r/m
		m.reg[o.reg] = read()
	case op == 0x89: // MOV r/m, r
		m.reg[o.rm] = m.reg[o.reg]
	case op == 0x03: // ADD r, r/m
		m.set(o.reg, m.reg[o.reg]+read())
	case op == 0x01: // ADD r/m, r
		m.set(o.rm, m.reg[o.rm]+m.reg[o.reg])
	case op == 0x83 && o.reg&7 == 0: // ADD r/m, imm8
		m.set(o.rm, m.reg[o.rm]+uint64(int8(m.next())))
	case op == 0x81 && o.reg&7 == 0: // ADD r/m, imm32
		m.set(o.rm, m.reg[o.rm]+uint64(m.next32()))
	case op == 0x83 && o.reg&7 == 5: // SUB r/m, imm8
		m.set(o.rm, m.reg[o.rm]-uint64(int8(m.next())))
	case op == 0xff && o.reg&7 == 1: // DEC r/m
		m.set(o.rm, m.reg[o.rm]-1)
	default:
		m.err = fmt.Errorf("opcode %#x", op)
	}
}

func (m *machine) set(reg int, v uint64) { m.reg[reg], m.zero = v, v == 0 }

// vector executes an instruction on tile registers.
func (m *machine) vector() {
	b1, b2, op := m.next(), m.next(), m.next()
	if b1&0x1f != 2 || b2&0x84 != 0 { // map 0F38, W 0, 128 bits
		m.err = fmt.Errorf("VEX prefix %#x %#x", b1, b2)
		return
	}
	v, prefix := int(15-b2>>3&15), b2&3
	o := m.operands(^b1>>7&1, ^b1>>6&1, ^b1>>5&1)
	switch {
	case op == 0x49 && prefix == 0 && v == 0 && o.reg == 0 && o.memory: // LDTILECFG
		m.config, m.tiles = *(*tileConfig)(pointer(uintptr(o.at))), [8][16][16]uint32{}
		m.check(m.config.palette == 1 && m.config.start == 0, "configuration")
		for i := range m.config.rows {
			m.check((m.config.rows[i] == 0) == (m.config.bytes[i] == 0) && m.config.rows[i] <= 16 && m.config.bytes[i] <= 64 &&
				(i < 8 || m.config.rows[i] == 0), "configuration")
		}
	case op == 0x49 && prefix == 0 && v == 0 && o.reg == 0 && o.rm == 0: // TILERELEASE
		m.config = tileConfig{}
	case op == 0x4b && (prefix == 3 || prefix == 2) && v == 0 && o.memory && o.index >= 0: // TILELOADD, TILESTORED
		m.move(o, prefix == 3)
	case op == 0x5c && prefix == 2 && !o.memory: // TDPBF16PS
		m.multiply(o.reg, o.rm, v)
	default:
		m.err = fmt.Errorf("VEX opcode %#x, prefix %d", op, prefix)
	}
}

func (m *machine) check(ok bool, what string) {
	if !ok && m.err == nil {
		m.err = fmt.Errorf("refused by a processor: %s: %+v", what, m.config)
	}
}

// size is a register's rows and values of 4 bytes.
func (m *machine) size(t int) (rows, cols int) {
	m.check(t < 8 && m.config.rows[t&15] > 0 && m.config.bytes[t&15]%4 == 0, fmt.Sprintf("tile register %d", t))
	return int(m.config.rows[t&15]), int(m.config.bytes[t&15]) / 4
}

func (m *machine) move(o operand, load bool) {
	rows, cols := m.size(o.reg)
	if m.err != nil {
		return
	}
	tile := &m.tiles[o.reg]
	if load {
		*tile = [16][16]uint32{}
	}
	for r := range rows {
		line := unsafe.Slice((*uint32)(pointer(uintptr(o.at+uint64(r)*m.reg[o.index]))), cols)
		if load {
			copy(tile[r][:], line)
		} else {
			copy(line, tile[r][:])
		}
	}
}

func (m *machine) multiply(c, a, b int) {
	rows, cols := m.size(c)
	aRows, aCols := m.size(a)
	bRows, bCols := m.size(b)
	m.check(c != a && c != b && a != b && rows == aRows && cols == bCols && aCols == bRows, "sizes of a product")
	if m.err != nil {
		return
	}
	for r := range rows {
		for n := range cols {
			var even, odd float32
			for k := range aCols {
				x, y := m.tiles[a][r][k], m.tiles[b][k][n]
				even = fusedToZero(unbf16(uint16(x)), unbf16(uint16(y)), even)
				odd = fusedToZero(unbf16(uint16(x>>16)), unbf16(uint16(y>>16)), odd)
			}
			sum := fusedToZero(1, fusedToZero(1, even, odd), math.Float32frombits(m.tiles[c][r][n]))
			m.tiles[c][r][n] = math.Float32bits(sum)
		}
	}
}

// The machine's multiply-add is exact arithmetic rounded once.
func TestFusedToZero(t *testing.T) {
	bits := uint32(1)
	next := func() float32 {
		bits = bits*1664525 + 1013904223
		return math.Float32frombits(bits&0x807fffff | (120+bits>>7%16)<<23)
	}
	for range 2000 {
		a, b, c := unbf16(bf16(next())), unbf16(bf16(next())), next()
		if got, want := fusedToZero(a, b, c), fma(a, b, c); got != want {
			t.Fatalf("%g·%g + %g is %g, want %g", a, b, c, got, want)
		}
	}
	if size := binary.Size(tileConfig{}); size != 64 {
		t.Fatalf("a configuration has %d bytes, want 64", size)
	}
}
