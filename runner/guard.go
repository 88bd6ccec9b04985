package runner

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// guardScript kills what is left of a run whose lpipe died, however it died. It waits at a pipe whose other end is
// lpipe's: "q" is an orderly end. If the pipe ends without it, the script kills the process groups that stand in the
// file at descriptor 3, and then whatever carries the run's scratch folder in its environment: processes that left
// their group. Ctrl-C is not for it.
const guardScript = `trap "" HUP INT QUIT TERM PIPE
read -r word
[ "$word" != q ] || exit 0
for id in $(cat <&3); do kill -s KILL -- "-$id"; done
clean=0
for round in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  found=
  for file in $(grep -lsaF "LPIPE_SCRATCH=$1/" /proc/[0-9]*/environ); do
    id=${file#/proc/}
    kill -s KILL "${id%/environ}" && found=1
  done
  if [ -n "$found" ]; then clean=0; else clean=$((clean + 1)); fi
  [ "$clean" -lt 2 ] || exit 0
  sleep 0.01 # a process in the middle of exec shows no environment for a moment
done
`

// guard sees to it that no process of a stage outlives lpipe. The one thing that certainly notices a kill -9 is
// another process: a shell that waits at a pipe. What it is to kill stands in a file, the one whose lock it holds until
// it is done, so that the next lpipe starts nothing beside processes that are about to be killed: a write into a file
// wakes nobody up.
type guard struct {
	dir     string // .lpipe
	scratch string // what scratch folders lie under; "" is dir/scratch

	mu    sync.Mutex
	lock  *os.File // .lpipe/guard: a line for each slot, with the group in it or blank
	slots []bool   // that hold a group
	shell *exec.Cmd
	pipe  io.WriteCloser
	err   error
}

// wait waits until the guard of an earlier run has done its work, and keeps the next one's lock.
func (g *guard) wait(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.take(ctx)
}

func (g *guard) take(ctx context.Context) error {
	if g.lock != nil {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(g.dir, "guard"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			g.lock = f
			return nil
		}
		if err != syscall.EWOULDBLOCK && err != syscall.EINTR {
			f.Close()
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// start starts the shell, before the first process that it is to guard.
func (g *guard) start(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shell != nil || g.err != nil {
		return g.err
	}
	if g.err = g.take(ctx); g.err != nil {
		return g.err
	}
	scratch := g.scratch
	if scratch == "" {
		scratch = filepath.Join(g.dir, "scratch")
	}
	if g.err = g.lock.Truncate(0); g.err != nil {
		return g.err
	}
	shell := exec.Command("/bin/sh", "-c", guardScript, "lpipe-guard", scratch)
	shell.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
	shell.Dir = "/"
	shell.ExtraFiles = []*os.File{g.lock}
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	g.pipe, g.err = shell.StdinPipe()
	if g.err == nil {
		g.err = shell.Start()
	}
	if g.err != nil {
		g.err = fmt.Errorf("start the guard of child processes: %w", g.err)
		return g.err
	}
	g.shell = shell
	adopt()
	return nil
}

// spawned puts a process group under guard. When it has ended, what the stage left outside of it ends as well.
func (g *guard) spawned(group int, scratch string) (ended func()) {
	slot := g.enter(group)
	return func() {
		endGroup(group, scratch)
		g.leave(slot)
	}
}

// slotText is a slot's line.
const slotText = "%10d\n"

// enter writes a group into a free slot of the file.
func (g *guard) enter(group int) (slot int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if slot = slices.Index(g.slots, false); slot < 0 {
		slot = len(g.slots)
		g.slots = append(g.slots, false)
	}
	g.slots[slot] = true
	g.fill(slot, fmt.Sprintf(slotText, group))
	return slot
}

func (g *guard) leave(slot int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.slots[slot] = false
	g.fill(slot, blankSlot)
}

// blankSlot is as long as any other.
const blankSlot = "          \n"

// fill writes a slot. The caller holds mu. An error leaves the second of the guard's two ways of finding a process.
func (g *guard) fill(slot int, text string) {
	if g.lock != nil {
		g.lock.WriteAt([]byte(text), int64(slot*len(blankSlot)))
	}
}

// close ends the guard in order: no stage runs any more.
func (g *guard) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shell != nil {
		fmt.Fprintln(g.pipe, "q")
		g.pipe.Close()
		g.shell.Wait()
		g.shell = nil
	}
	if g.lock != nil {
		g.lock.Close()
		g.lock = nil
	}
}

// killStrays kills the processes whose environment names a scratch folder of this workspace. Only the holder of the
// workspace's lock may call it while no stage runs.
func killStrays(scratch string) {
	mark := []byte("LPIPE_SCRATCH=" + scratch + "/")
	for range 10 {
		found := false
		files, err := filepath.Glob("/proc/[0-9]*/environ")
		if err != nil {
			return
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil || !bytes.HasPrefix(data, mark) && !bytes.Contains(data, append([]byte{0}, mark...)) {
				continue
			}
			id, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err == nil && id != os.Getpid() && syscall.Kill(id, syscall.SIGKILL) == nil {
				found = true
			}
		}
		if !found {
			return
		}
	}
}
