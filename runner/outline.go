package runner

import (
	"encoding/binary"
	"hash/crc32"
	"path/filepath"
	"slices"
	"strings"
)

// outlined is what .lpipe/fresh tells of a stage, enough to see whether a changed path concerns it without its pipeline: all
// strings are parts of the file.
type outlined struct {
	step   int      // its place in the pipeline
	record int      // its place among the names of the lock, sorted
	sum    uint32   // CRC-32C of its record's text
	looks  bool     // it needs a look, whatever has changed
	whole  bool     // running it takes the whole pipeline
	paths  []string // as pathsOf, relative to the workspace where they are in it
	needs  []int    // places in the outline
	reads  []int    // places among the sources of the lock, sorted by path
}

// encodeOutline is the end of .lpipe/fresh: the plan, each stage after all that it needs. All stages are on record.
func (r *Runner) encodeOutline(b []byte) []byte {
	names, sources := sortedKeys(r.lock.Stages), sortedKeys(r.lock.Sources)
	place := make([]int, len(r.Plan.Nodes))
	b = binary.AppendUvarint(b, uint64(len(r.Plan.order)))
	for i, n := range r.Plan.order {
		place[n.index] = i
		record, _ := slices.BinarySearch(names, n.Step.Name)
		looks, whole := n.Step.Always || n.Step.Frozen || len(n.Step.Tools) > 0, n.Step.Sandbox != ""
		var reads []int
		for k := range n.inputs {
			if origin := n.inputs[k].origin; origin != nil {
				at, known := slices.BinarySearch(sources, n.inputs[k].Path)
				if looks, whole = looks || !known || origin.Download != nil, whole || origin.Download != nil; known {
					reads = append(reads, at)
				}
			}
		}
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(n.index)), uint64(record))
		b = binary.LittleEndian.AppendUint32(b, r.lock.stageSum(n.Step.Name))
		b = append(b, bit(looks)|bit(whole)<<1)
		paths := r.pathsOf(n)
		for k := range paths {
			paths[k] = strings.TrimPrefix(paths[k], r.dir+string(filepath.Separator))
		}
		b = appendTexts(b, paths)
		needs := make([]int, len(n.Needs))
		for k, need := range n.Needs {
			needs[k] = place[need.index]
		}
		b = appendPlaces(appendPlaces(b, needs), reads)
	}
	return b
}

func appendPlaces(b []byte, places []int) []byte {
	b = binary.AppendUvarint(b, uint64(len(places)))
	for _, place := range places {
		b = binary.AppendUvarint(b, uint64(place))
	}
	return b
}

// stageSum is the checksum of a record's text.
func (l *Lock) stageSum(name string) uint32 {
	text, kept := l.texts[name]
	if !kept {
		text = string(l.Stages[name].append(nil, name))
	}
	return textSum(text)
}

func textSum(text string) uint32 { return crc32.Checksum([]byte(text), castagnoli()) }

// readOutline reads what encodeOutline wrote, of so many records and sources; false: it is not that.
func readOutline(r reader, records, sources int) (all []outlined, ok bool) {
	all = make([]outlined, r.count())
	steps := make([]bool, len(all))
	for i := range all {
		one := &all[i]
		one.step, one.record = int(r.uvarint()), int(r.uvarint())
		if four := r.take(4); four != nil {
			one.sum = binary.LittleEndian.Uint32(four)
		}
		flags := r.byte()
		one.looks, one.whole = flags&1 != 0, flags&2 != 0
		one.paths = r.texts()
		one.needs, one.reads = r.places(i), r.places(sources)
		if r.bad || one.step < 0 || one.step >= len(all) || steps[one.step] || one.record < 0 || one.record >= records {
			return nil, false
		}
		steps[one.step] = true
	}
	return all, !r.bad && len(r.b) == 0
}

// places reads numbers that are below a bound; one that is not makes r bad.
func (r *reader) places(below int) []int {
	places := make([]int, r.count())
	for i := range places {
		if places[i] = int(r.uvarint()); places[i] < 0 || places[i] >= below {
			r.b, r.bad = nil, true
		}
	}
	return places
}
