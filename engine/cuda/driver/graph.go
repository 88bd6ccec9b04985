//go:build cuda

package driver

/*
#include "driver.h"
*/
import "C"

import "lpipe/engine/cuda"

// graph is a CUDA graph that is ready to run.
type graph struct {
	m    *Machine
	exec C.CUgraphExec
}

// Record captures what work queues as a graph. What it does to the host's memory, waits and transfers, has no place in one: the driver
// refuses it, and then the graph.
func (m *Machine) Record(work func()) (cuda.Recording, error) {
	defer m.lock()()
	// Relaxed: other threads may go on calling the driver, a saver's among them, and the goroutine may change its own.
	if err := result("cuStreamBeginCapture", C.cuStreamBeginCapture(stream(m.queue), C.CU_STREAM_CAPTURE_MODE_RELAXED)); err != nil {
		return nil, err
	}
	work()
	var captured C.CUgraph
	if err := result("cuStreamEndCapture", C.cuStreamEndCapture(stream(m.queue), &captured)); err != nil {
		return nil, err
	}
	defer C.cuGraphDestroy(captured)
	g := &graph{m: m}
	if err := result("cuGraphInstantiate", C.cuGraphInstantiateWithFlags(&g.exec, captured, 0)); err != nil {
		return nil, err
	}
	return g, nil
}

// Run queues all of it.
func (g *graph) Run() error {
	defer g.m.lock()()
	return result("cuGraphLaunch", C.cuGraphLaunch(g.exec, stream(g.m.queue)))
}

// Forget gives the graph back.
func (g *graph) Forget() {
	if g.exec != nil {
		defer g.m.lock()()
		C.cuGraphExecDestroy(g.exec) // what cannot be given back goes with the process
		g.exec = nil
	}
}
