//go:build !cuda

package graph

import (
	"fmt"
	"strings"
	"testing"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Gorgonia draws its graphs through a module for which ours stands in (lean/gographviz): every node and edge must be there,
// in braces that fit.
func TestGraphsCanBeDrawn(t *testing.T) {
	g := gorgonia.NewGraph()
	x := gorgonia.NewMatrix(g, tensor.Float32, gorgonia.WithShape(2, 3), gorgonia.WithName("x"))
	w := gorgonia.NewMatrix(g, tensor.Float32, gorgonia.WithShape(3, 2), gorgonia.WithName(`w "quoted"`))
	sum := gorgonia.Must(gorgonia.Sum(gorgonia.Must(gorgonia.Mul(x, w))))
	whole, tree := g.ToDot(), sum.ToDot()
	for _, drawn := range []string{whole, tree} {
		if !strings.HasPrefix(drawn, "digraph ") || strings.Count(drawn, "{\n") != strings.Count(drawn, "}\n") {
			t.Errorf("not a graph in DOT:\n%s", drawn)
		}
		for _, n := range g.AllNodes() {
			if !strings.Contains(drawn, fmt.Sprintf("\"Node_%p\" [ fontname=\"monospace\", label=", n)) {
				t.Errorf("node %v is missing in\n%s", n, drawn)
			}
		}
		edge := fmt.Sprintf(`"Node_%p":anchor:s -> "Node_%p":anchor:n [`, sum, g.AllNodes()[2])
		if !strings.Contains(drawn, edge) {
			t.Errorf("edge %s is missing in\n%s", edge, drawn)
		}
	}
	for _, text := range []string{`subgraph "cluster_inputs" {`, `rankdir="TB";`, `rank="max";`, `-> "insideInputs" [ constraint="false", style="invis", weight="999" ];`} {
		if !strings.Contains(whole, text) {
			t.Errorf("%s is missing in\n%s", text, whole)
		}
	}
}
