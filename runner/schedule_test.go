package runner

import (
	"container/heap"
	"testing"
)

// What most likely runs is looked at first, so that the rest is looked at while it runs; then the longest way to the end
// comes first, then the order of the file.
func TestReadyQueue(t *testing.T) {
	nodes := make([]*Node, 6)
	for i := range nodes {
		nodes[i] = &Node{index: i}
	}
	q := &readyQueue{priority: []float64{1, 9, 2, 2, 5, 0}, likely: func(n *Node) bool { return n.index == 2 || n.index == 5 || n.index == 0 }}
	for _, n := range nodes {
		heap.Push(q, n)
	}
	for _, want := range []int{2, 0, 5, 1, 4, 3} {
		if got := heap.Pop(q).(*Node).index; got != want {
			t.Errorf("got %d, want %d", got, want)
		}
	}
}
