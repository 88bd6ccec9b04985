package runner

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestPoolsServeTheFirstInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPools(Options{Pipeline: &Pipeline{Settings: Settings{Pools: map[string]int{"disk": 1}}}, Jobs: 4, CPUs: 4, GPUs: []int{3, 5}})
		var order []string
		take := func(name string, needs Resources, priority float64) func() {
			var g *grant
			go func() {
				var err error
				if g, err = p.take(t.Context(), needs, priority); err != nil {
					t.Error(err)
				}
				order = append(order, name)
			}()
			synctest.Wait()
			return func() { g.release(); synctest.Wait() }
		}
		first := take("first", Resources{CPU: 1}, 0)
		big := take("big", Resources{CPU: -1}, 1)
		small := take("small", Resources{CPU: 1}, 0)
		if len(order) != 1 {
			t.Fatalf("%v: a small need overtook a big one", order)
		}
		first()
		if len(order) != 2 || order[1] != "big" {
			t.Fatal(order)
		}
		big()
		disk := take("disk", Resources{CPU: 1, Pool: map[string]int{"disk": 1}}, 0)
		take("disk 2", Resources{CPU: 1, Pool: map[string]int{"disk": 1}}, 9)
		gpu := take("gpu", Resources{CPU: 1, GPU: 9}, 0) // cut to what there is
		if got := order[len(order)-1]; got != "gpu" {
			t.Fatalf("%v: who lacks a disk keeps others from the CPUs", order)
		}
		small()
		gpu()
		disk()
		if order[len(order)-1] != "disk 2" {
			t.Fatal(order)
		}
	})
}

func TestPoolsSendAway(t *testing.T) {
	p := newPools(Options{Pipeline: &Pipeline{}, Jobs: 1, CPUs: 1})
	g, err := p.take(t.Context(), Resources{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.take(ctx, Resources{}, 0); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	stopped := make(chan error)
	go func() {
		_, err := p.take(t.Context(), Resources{}, 0)
		stopped <- err
	}()
	p.stop()
	if err := <-stopped; !errors.Is(err, errStopped) {
		t.Error(err)
	}
	g.release()
	if p.free["jobs"] != 1 {
		t.Errorf("%d jobs are free", p.free["jobs"])
	}
}
