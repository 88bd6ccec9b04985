//go:build !cuda

package graph

import (
	"fmt"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// nodes builds a graph of matrices. The first error sticks, so that a formula reads as one.
type nodes struct {
	graph *gorgonia.ExprGraph
	count int
	err   error
}

// matrix is a leaf [rows, columns].
func (n *nodes) matrix(name string, rows, columns int, values []float64) *gorgonia.Node {
	if n.err == nil && len(values) != rows*columns {
		n.err = fmt.Errorf("graph: %s has %d values, not %d x %d", name, len(values), rows, columns)
	}
	if n.err != nil {
		return nil
	}
	// Gorgonia takes leaves of one name for the same one.
	n.count++
	t := tensor.New(tensor.WithShape(rows, columns), tensor.WithBacking(values))
	return gorgonia.NodeFromAny(n.graph, t, gorgonia.WithName(fmt.Sprintf("%s#%d", name, n.count)))
}

// fill is a constant matrix with value(row, column) everywhere.
func (n *nodes) fill(rows, columns int, value func(i, j int) float64) *gorgonia.Node {
	values := make([]float64, rows*columns)
	for i := range values {
		values[i] = value(i/columns, i%columns)
	}
	return n.matrix("constant", rows, columns, values)
}

func (n *nodes) all(rows, columns int, v float64) *gorgonia.Node {
	return n.fill(rows, columns, func(int, int) float64 { return v })
}

// pick is the constant that, multiplied from the right, takes count columns from the from-th on out of width.
func (n *nodes) pick(width, from, count int) *gorgonia.Node {
	return n.fill(width, count, func(i, j int) float64 {
		if i == from+j {
			return 1
		}
		return 0
	})
}

type unary = func(*gorgonia.Node) (*gorgonia.Node, error)
type binary = func(a, b *gorgonia.Node) (*gorgonia.Node, error)

func (n *nodes) one(op unary, a *gorgonia.Node) *gorgonia.Node {
	if n.err != nil {
		return nil
	}
	out, err := op(a)
	n.err = err
	return out
}

func (n *nodes) two(op binary, a, b *gorgonia.Node) *gorgonia.Node {
	if n.err != nil {
		return nil
	}
	out, err := op(a, b)
	n.err = err
	return out
}

// mul is the matrix product, times the product of entries.
func (n *nodes) mul(a, b *gorgonia.Node) *gorgonia.Node   { return n.two(gorgonia.Mul, a, b) }
func (n *nodes) times(a, b *gorgonia.Node) *gorgonia.Node { return n.two(gorgonia.HadamardProd, a, b) }
func (n *nodes) over(a, b *gorgonia.Node) *gorgonia.Node  { return n.two(gorgonia.HadamardDiv, a, b) }
func (n *nodes) add(a, b *gorgonia.Node) *gorgonia.Node   { return n.two(gorgonia.Add, a, b) }
func (n *nodes) minus(a, b *gorgonia.Node) *gorgonia.Node { return n.two(gorgonia.Sub, a, b) }

func (n *nodes) transpose(a *gorgonia.Node) *gorgonia.Node {
	return n.one(func(a *gorgonia.Node) (*gorgonia.Node, error) { return gorgonia.Transpose(a, 1, 0) }, a)
}

// scale multiplies a [rows, columns] by a number.
func (n *nodes) scale(a *gorgonia.Node, rows, columns int, s float64) *gorgonia.Node {
	return n.times(a, n.all(rows, columns, s))
}

// rows repeats the row vector a [1, columns] count times.
func (n *nodes) rows(a *gorgonia.Node, count int) *gorgonia.Node { return n.mul(n.all(count, 1, 1), a) }

// columns repeats the column vector a [rows, 1] count times.
func (n *nodes) columns(a *gorgonia.Node, count int) *gorgonia.Node {
	return n.mul(a, n.all(1, count, 1))
}

// sums adds up each row of a [rows, columns].
func (n *nodes) sums(a *gorgonia.Node, columns int) *gorgonia.Node {
	return n.mul(a, n.all(columns, 1, 1))
}
