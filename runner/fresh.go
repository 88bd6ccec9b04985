package runner

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"path/filepath"

	"lpipe/cache"
)

// freshMagic begins .lpipe/fresh; its last byte is the version.
const freshMagic = "lpfresh\x03"

// FreshReport is what there is to say of a workspace in which there is nothing to do.
type FreshReport struct {
	Stages  int
	Sources int
	Saved   float64 // as Summary has it
}

// ReadFresh tells whether a workspace was up to date when last asked under these circumstances, and nothing that the
// answer hung on differs since: pipeline files and values, inputs, code, tools, outputs, lock, and what the cache needs
// to know of the project. It is the short way of Repro and Status without targets, which say the same; false means only
// that they must be asked.
func ReadFresh(c Circumstances) (FreshReport, bool) {
	_, answer, holds := readBasis("fresh", freshMagic, c)
	if !holds {
		return FreshReport{}, false
	}
	r := reader{b: answer}
	report := readReport(&r)
	return report, !r.bad
}

func readReport(r *reader) FreshReport {
	return FreshReport{Stages: int(r.uvarint()), Sources: int(r.uvarint()), Saved: r.float()}
}

// encode is what the file holds behind its basis, before the checks of the lock's records.
func (f FreshReport) encode() []byte {
	b := binary.AppendUvarint(binary.AppendUvarint(nil, uint64(f.Stages)), uint64(f.Sources))
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(f.Saved))
}

// errNotFresh is a workspace in which there is something to do, or to say.
var errNotFresh = errors.New("not everything is fresh")

// KeepFresh looks at everything once more, and if all is fresh it writes down for ReadFresh what that hangs on. It
// returns errNotFresh, or why the answer could not be relied on, which is no reason to worry.
func (r *Runner) KeepFresh(ctx context.Context, c Circumstances) error {
	if r.Pipeline.left != nil || r.lockedFiles() > maxWitnessed {
		return errNotFresh
	}
	witness := cache.NewWitness(r.dir)
	witness.Join(r.Pipeline.reads.again(r.dir))
	for _, at := range r.restsOn() {
		witness.Look(at, true)
	}
	if r.stampNow() != r.stamp || r.total > 0 || !r.lockFits() {
		return errNotFresh
	}
	report, err := r.assessBefore(ctx, ReproOptions{}, witness)
	if err != nil {
		return err
	}
	memory := readMemory(r.path("stages.json"))
	answer := FreshReport{Stages: len(report.Stages), Sources: len(report.Sources)}
	for _, stage := range report.Stages {
		if stage.State != Fresh {
			return errNotFresh
		}
		answer.Saved += memory.seconds(stage.Name)
	}
	for _, source := range report.Sources {
		if source.State != Fresh {
			return errNotFresh
		}
	}
	if err := r.witnessDownloads(ctx, witness); err != nil {
		return err
	}
	return writeBasis("fresh", freshMagic, c, r.Pipeline, witness, r.encodeOutline(r.lock.encodeChecks(answer.encode())))
}

// maxWitnessed is how many files an answer may hang on. The state compares more of them as fast, in a tenth of the memory
// that a witness of each takes.
const maxWitnessed = 200_000

// lockedFiles counts the files of all that the lock names.
func (r *Runner) lockedFiles() (n int64) {
	for _, source := range r.lock.Sources {
		n += source.Files
	}
	for _, stage := range r.lock.Stages {
		for _, out := range stage.Out {
			n += out.Files
		}
	}
	return n
}

// restsOn lists what a run reads beside what stages and sources are: a journal, a lock without its name, or a temporary
// folder is left by a command that was killed, and is dealt with first; the cache must be one, and know of this project.
func (r *Runner) restsOn() []string {
	paths := []string{
		LockPath(r.dir, r.Pipeline.Profile), r.path("journal"), r.path("lock.new"), r.path("tmp"), r.path("stages.json"),
		filepath.Join(r.dir, ".lpipeignore"),
	}
	return append(paths, r.Cache.RestsOn(r.dir)...)
}

// lockFits tells whether a run would leave the lock as it is: it drops what the pipeline has no more.
func (r *Runner) lockFits() bool {
	for name := range r.lock.Stages {
		if !r.keeps(name) {
			return false
		}
	}
	for path, source := range r.lock.Sources {
		if !r.keepsSource(path, source) {
			return false
		}
	}
	return true
}

// witnessDownloads looks at all of each download that stages read, as a run does, though they may read a part of it.
func (r *Runner) witnessDownloads(ctx context.Context, witness *cache.Witness) error {
	v := view{Runner: r, witness: witness}
	for _, origin := range r.Plan.Sources {
		if origin.Download == nil {
			continue
		}
		scan, err := v.look(ctx, r.Plan.abs(origin.Download.Path))
		if err != nil {
			return err
		}
		if record, fits := v.pinned(origin.Download); !fits || scan.Content != record.Content {
			return errNotFresh
		}
	}
	return nil
}
