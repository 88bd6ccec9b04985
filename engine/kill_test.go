package engine

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lpipe/engine/cpu"
)

// childEnv names a file with the options of a training run: the test binary then is that run.
const childEnv = "LPIPE_TEST_TRAIN"

// childOptions are options without what no file can hold.
type childOptions struct {
	TrainOptions
	Report, Now, Saved any
}

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		if err := trainAsChild(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// trainAsChild runs the options in a file, says each step on stdout and writes the result beside the file.
func trainAsChild(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var given childOptions
	if err := json.Unmarshal(text, &given); err != nil {
		return err
	}
	o := given.TrainOptions
	if err := os.RemoveAll(o.Out); err != nil { // as the runner does with what a killed stage left
		return err
	}
	o.Log, o.Report = os.Stderr, func(p Progress) { fmt.Println(p.Step) }
	dev := cpu.New(cpu.Options{Threads: 1})
	defer dev.Close()
	result, err := Train(context.Background(), dev, o)
	if err != nil {
		return err
	}
	numbers, err := json.Marshal(result)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".memory", fmt.Append(nil, PeakRSS()), 0o666); err != nil {
		return err
	}
	return os.WriteFile(path+".result", numbers, 0o666)
}

// startChild starts a process that trains.
func startChild(t *testing.T, optionsFile string) (*exec.Cmd, *bufio.Reader, *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childEnv+"="+optionsFile)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewReader(out), &stderr
}

// TestKilledRunGoesOn kills a training process 30 times, with SIGKILL, after a random number of steps and a random time
// within a step, evaluation, checkpoint or start. Whenever the run comes to its end in spite of that, its adapter, numbers
// and curve are those of an undisturbed run, bit for bit. Where few processes went on from a checkpoint, since most were killed before
// they had read it, more are started.
func TestKilledRunGoesOn(t *testing.T) {
	o := small(t)
	o.Steps, o.EvalEvery, o.SelectBest, o.LoRA.Init = 24, 3, true, "pissa"
	o.CheckpointSteps, o.EMA = 1, 0.9
	result := train(t, o, 1)
	want := snapshot(t, o, result)

	o.Scratch, o.Out = filepath.Join(t.TempDir(), "scratch"), filepath.Join(t.TempDir(), "out")
	text, err := json.Marshal(childOptions{TrainOptions: o})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "options.json")
	if err := os.WriteFile(file, text, 0o666); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	kills, ends, resumed := 0, 0, 0
	for again := func() bool { return kills < 30 || resumed < 15 && kills < 300 }; again() || ends == 0; {
		steps, wait := r.IntN(8), time.Duration(r.Int64N(int64(8*time.Millisecond)))
		if !again() {
			steps = 1 << 20 // to the end
		}
		cmd, lines, stderr := startChild(t, file)
		killed := killAfter(t, cmd, lines, steps, wait)
		if strings.Contains(stderr.String(), "going on after step") {
			resumed++
		}
		wholeSteps(t, o.CurveOut)
		if killed {
			kills++
			continue
		}
		numbers, err := os.ReadFile(file + ".result")
		if err != nil {
			t.Fatalf("%v\n%s", err, stderr)
		}
		var got TrainResult
		if err := json.Unmarshal(numbers, &got); err != nil {
			t.Fatal(err)
		}
		if s := snapshot(t, o, &got); s != want {
			t.Fatalf("after %d kills:\n%s\nundisturbed:\n%s\n%s", kills, s, want, stderr)
		}
		ends++
		os.RemoveAll(o.Scratch)
	}
	if resumed < 15 {
		t.Errorf("only %d of %d processes went on from a checkpoint", resumed, kills)
	}
	t.Logf("%d kills, %d runs to the end, %d processes went on from a checkpoint", kills, ends, resumed)
}

// killAfter kills a process after it has said that many lines, and some time; false if it ended before.
func killAfter(t *testing.T, cmd *exec.Cmd, lines *bufio.Reader, steps int, wait time.Duration) bool {
	t.Helper()
	for range steps {
		if _, err := lines.ReadString('\n'); err != nil {
			break // it ended
		}
	}
	time.Sleep(wait) // the moment within a step is the point
	cmd.Process.Kill()
	lines.WriteTo(&bytes.Buffer{})
	err := cmd.Wait()
	if err == nil {
		return false
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the child ended by itself: %v\n%s", err, cmd.Stderr)
	}
	return true
}

// TestCheckpointCannotBeWritten: training goes on with a warning, the checkpoint before stays and can be gone on from.
func TestCheckpointCannotBeWritten(t *testing.T) {
	o := small(t)
	want := snapshot(t, o, train(t, o, 1))
	o.Scratch, o.Out = t.TempDir(), filepath.Join(t.TempDir(), "out")
	o.CheckpointSteps = 3
	if err := os.MkdirAll(filepath.Join(o.Scratch, checkpointName(6), "in the way"), 0o777); err != nil {
		t.Fatal(err)
	}
	var messages bytes.Buffer
	o.Log = &messages
	if got := snapshot(t, o, train(t, o, 1)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if s := messages.String(); strings.Count(s, "training goes on") != 1 || !strings.Contains(s, "checkpoint of step 6") || !strings.Contains(s, o.Scratch) {
		t.Errorf("messages: %s", s)
	}
	names, _ := checkpointFiles(o.Scratch)
	if len(names) != 2 || names[0] != checkpointName(3) || names[1] != checkpointName(9) {
		t.Errorf("kept %v", names)
	}
}
