//go:build !amd64 && !arm64

package cpu

// No kernel has pairs here.

func asPairs([]uint16) []float32 { panic("cpu: no pairs on this processor") }

func (vector) round(out, x []float32, f form) { roundGo(out, x, f) }

func (vector) zipPanel([]float32, []uint16, int, int, int) int { return 0 }
