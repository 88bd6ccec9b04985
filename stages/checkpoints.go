package stages

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"lpipe/engine"
	"lpipe/runner"
)

// lastSend is how long an interrupted run goes on sending its last checkpoint: a machine that is taken away says so two minutes
// before.
const lastSend = 90 * time.Second

// checkpointSender sends checkpoints beside training, the newest where several wait. What cannot be sent is said once, and costs
// nothing but that another machine would go on from an earlier one.
type checkpointSender struct {
	env    *runner.Env
	newest chan string // path of the checkpoint to be sent next
	ended  chan struct{}
	said   string // the last failure
}

// startSending starts the sender; close ends it. Nil where there is no place to send to.
func startSending(ctx context.Context, env *runner.Env) *checkpointSender {
	if env.SendCheckpoint == nil {
		fmt.Fprintln(env.Log, "checkpoint_push: there is no remote to send checkpoints to: they stay on this machine")
		return nil
	}
	s := &checkpointSender{env: env, newest: make(chan string, 1), ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		for path := range s.newest {
			s.send(ctx, path)
		}
	}()
	return s
}

// saved takes a checkpoint's path in place of one that still waits. It is called by one goroutine at a time.
func (s *checkpointSender) saved(path string) {
	select {
	case <-s.newest:
	default:
	}
	s.newest <- path
}

// send outlives the context by the time that the last checkpoint may take.
func (s *checkpointSender) send(ctx context.Context, path string) {
	send, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(lastSend):
			cancel()
		case <-send.Done():
		}
	})
	defer stop()
	err := s.sendCopy(send, path)
	switch {
	case err == nil:
		s.said = ""
		fmt.Fprintf(s.env.Log, "sent %s: another machine can go on from it\n", filepath.Base(path))
	case err.Error() != s.said:
		s.said = err.Error()
		fmt.Fprintf(s.env.Log, "%v: training goes on, and so would another machine, from the checkpoint sent before, if one was\n", err)
	}
}

// sendCopy sends the file under a name of its own: training removes old checkpoints, which may be the one that is being sent.
func (s *checkpointSender) sendCopy(ctx context.Context, path string) error {
	dir, err := os.MkdirTemp(s.env.Scratch, "send.")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	link := filepath.Join(dir, filepath.Base(path))
	if err := os.Link(path, link); err != nil {
		if err := copyFile(link, path); err != nil {
			return err
		}
	}
	return s.env.SendCheckpoint(ctx, link)
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// close sends what waits and ends.
func (s *checkpointSender) close() {
	close(s.newest)
	<-s.ended
}

// bringCheckpoint brings the newest checkpoint of another machine, if it is newer than what lies in Scratch.
func bringCheckpoint(ctx context.Context, env *runner.Env) error {
	if env.BringCheckpoint == nil {
		return nil
	}
	left, _ := filepath.Glob(filepath.Join(env.Scratch, "send.*")) // of a run that was killed
	for _, dir := range left {
		os.RemoveAll(dir)
	}
	name, err := env.BringCheckpoint(ctx, engine.LatestCheckpoint(env.Scratch))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		fmt.Fprintf(env.Log, "%v: going on without it\n", err)
	case name != "":
		fmt.Fprintf(env.Log, "brought %s, which another run of this stage has sent\n", name)
	}
	return nil
}
