package stages

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"os"
	"sync"
)

// NearDuplicates is the setting near_duplicates: off, or rows whose prompts are alike are found by MinHash
// (Broder 1997) over word shingles. true and a number stand for the object with that threshold.
type NearDuplicates struct {
	On        bool    `json:"on"`
	Threshold float64 `json:"threshold"` // Jaccard similarity of the shingles, 0..1
	Shingle   int     `json:"shingle"`   // words
}

// defaultNear is near_duplicates = true.
func defaultNear() NearDuplicates { return NearDuplicates{On: true, Threshold: 0.8, Shingle: 5} }

// UnmarshalJSON reads true, false, a threshold, or an object.
func (d *NearDuplicates) UnmarshalJSON(b []byte) error {
	*d = defaultNear()
	if err := json.Unmarshal(b, &d.On); err == nil {
		return nil
	}
	d.On = true
	if err := json.Unmarshal(b, &d.Threshold); err == nil {
		return nil
	}
	object := struct {
		Threshold *float64 `json:"threshold"`
		Shingle   *int     `json:"shingle"`
	}{&d.Threshold, &d.Shingle}
	if err := strictJSON(b, &object); err != nil {
		return errors.New("takes true, false, a threshold, or { threshold = 0.8, shingle = 5 }")
	}
	return nil
}

func (d NearDuplicates) check(name string) error {
	if d.On && (d.Threshold < 0.3 || d.Threshold > 1) {
		return fmt.Errorf("%s: the threshold must be 0.3..1, not %v", name, d.Threshold)
	}
	if d.On && (d.Shingle < 1 || d.Shingle > 50) {
		return fmt.Errorf("%s: shingle must be 1..50 words, not %d", name, d.Shingle)
	}
	return nil
}

const permutations = 112 // as FineWeb, which bands them 14 times 8, for a likeness of 0.72; bandRows goes by the threshold

// signature is the MinHash of a prompt: the lowest byte of each minimum, and a hash of each band.
type signature struct {
	row   uint64
	key   uint64 // what the caller wants to know of a cluster's first row
	bytes [permutations]byte
	bands []pair
}

const signatureBytes = permutations + 8 // in scratch: bytes, key

// bandRows is how many minima make a band: the most with which two prompts just at the threshold still share
// one of the bands in about 19 of 20 cases. What shares a band by chance is sorted out by the signatures.
func (d NearDuplicates) bandRows() int {
	for rows := 16; rows > 1; rows-- {
		bands := float64(permutations / rows)
		if 1-math.Pow(1-math.Pow(d.Threshold, float64(rows)), bands) >= 0.95 {
			return rows
		}
	}
	return 1
}

// minHasher makes signatures.
type minHasher struct {
	near       NearDuplicates
	rows       int
	mul, shift [permutations]uint64
}

func newMinHasher(near NearDuplicates) *minHasher {
	m := &minHasher{near: near, rows: near.bandRows()}
	for i := range m.mul {
		m.mul[i] = mix(uint64(2*i+1)*0x9e3779b97f4a7c15) | 1
		m.shift[i] = mix(uint64(2*i+2) * 0x9e3779b97f4a7c15)
	}
	return m
}

// sign makes the signature of a prompt; false if there is no word in it.
func (m *minHasher) sign(prompt string, row int64) (signature, bool) {
	s := signature{row: uint64(row)}
	space := signSpaces.Get().(*[]uint64)
	defer signSpaces.Put(space)
	*space = appendWords((*space)[:0], prompt)
	words := *space
	if len(words) == 0 {
		return s, false
	}
	least := m.least(shingles(words, m.near.Shingle))
	for i, v := range least {
		s.bytes[i] = byte(v)
	}
	s.bands = make([]pair, 0, permutations/m.rows)
	for band := 0; band+m.rows <= permutations; band += m.rows {
		s.bands = append(s.bands, pair{bandHash(least[band : band+m.rows]), uint64(band), s.row})
	}
	return s, true
}

// signSpaces are buffers for sign.
var signSpaces = sync.Pool{New: func() any { return new([]uint64) }}

// bandHash is a polynomial of the minima, mixed. Bands of one hash are a guess: the signatures of their rows are compared.
func bandHash(minima []uint32) uint64 {
	h := uint64(0)
	for _, v := range minima {
		h = (h + uint64(v)) * 0x9e3779b97f4a7c15
	}
	return mix(h)
}

// least are the minima of all permutations over the hashes, of which there is at least one.
func (m *minHasher) least(hashes []uint64) (least [permutations]uint32) {
	if !m.leastByVectors(&least, hashes) {
		m.leastPlainly(&least, hashes)
	}
	return least
}

func (m *minHasher) leastPlainly(least *[permutations]uint32, hashes []uint64) {
	for i := range least {
		least[i] = math.MaxUint32
	}
	for _, h := range hashes {
		for i := range least {
			least[i] = min(least[i], uint32((h*m.mul[i]+m.shift[i])>>32))
		}
	}
}

// clusterer groups rows by their signatures. Its state beyond four bytes a row lies in scratch when it is much.
type clusterer struct {
	near    NearDuplicates
	bands   *sorter
	scratch string
	held    []byte   // signatures by row number, as long as they are few
	file    *os.File // then all of them
	out     *bufio.Writer
	next    uint64 // row number behind the last
}

// signaturesInMemory bounds held: beyond it each look at a signature is a read of the file.
const signaturesInMemory = 32 << 20

func newClusterer(near NearDuplicates, scratch string) *clusterer {
	return &clusterer{near: near, bands: newSorter(scratch), scratch: scratch}
}

// add takes the signatures in the order of rows.
func (c *clusterer) add(s signature) error {
	for ; c.next < s.row; c.next++ { // rows without words, blank lines
		if err := c.hold(make([]byte, signatureBytes)); err != nil {
			return err
		}
	}
	c.next++
	if err := c.hold(binary.LittleEndian.AppendUint64(s.bytes[:permutations:permutations], s.key)); err != nil {
		return err
	}
	for _, band := range s.bands {
		if err := c.bands.add(band); err != nil {
			return err
		}
	}
	return nil
}

// hold keeps a record of signatureBytes.
func (c *clusterer) hold(record []byte) error {
	if c.out == nil && len(c.held) < signaturesInMemory {
		c.held = append(c.held, record...)
		return nil
	}
	if c.out == nil {
		if err := c.spill(); err != nil {
			return err
		}
	}
	if _, err := c.out.Write(record); err != nil {
		return fmt.Errorf("spill to scratch: %w", err)
	}
	return nil
}

func (c *clusterer) spill() error {
	err := os.MkdirAll(c.scratch, 0o777)
	if err == nil {
		c.file, err = os.CreateTemp(c.scratch, "signatures-*")
	}
	if err == nil {
		_ = os.Remove(c.file.Name())
		c.out = bufio.NewWriterSize(c.file, 1<<18)
		_, err = c.out.Write(c.held)
	}
	if err != nil {
		return fmt.Errorf("spill to scratch: %w", err)
	}
	c.held = nil
	return nil
}

func (c *clusterer) close() {
	c.bands.close()
	if c.file != nil {
		c.file.Close()
	}
}

func (c *clusterer) flush() error {
	if c.out == nil {
		return nil
	}
	if err := c.out.Flush(); err != nil {
		return fmt.Errorf("spill to scratch: %w", err)
	}
	return nil
}

// bytesOf reads the signature of a row.
func (c *clusterer) bytesOf(row uint64, sig *[permutations]byte) error {
	if c.file == nil {
		copy(sig[:], c.held[row*signatureBytes:])
		return nil
	}
	if _, err := c.file.ReadAt(sig[:], int64(row)*signatureBytes); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read back from scratch: %w", err)
	}
	return nil
}

// leaders are how many unlike rows of one band others are compared with: a band that thousands share costs no square of them.
const leaders = 8

// cluster joins rows that share a band and are alike.
func (c *clusterer) cluster(ctx context.Context) (*clusters, error) {
	if err := c.flush(); err != nil {
		return nil, err
	}
	joined := &clusters{}
	one := matching{
		known: func(a, b uint64) bool { return joined.root(a) == joined.root(b) },
		like: func(row, leader uint64) error {
			joined.join(leader, row)
			return nil
		},
	}
	err := c.compare(ctx, one)
	joined.flatten()
	return joined, err
}

// pairs calls like for each row with the earlier rows of its bands that lead there and are alike; not again with the one that it
// was called with last.
func (c *clusterer) pairs(ctx context.Context, like func(row, earlier uint64) error) error {
	last := make([]uint32, c.next) // by row
	return c.compare(ctx, matching{
		every: true,
		known: func(leader, row uint64) bool { return last[row] == uint32(leader) },
		like: func(row, leader uint64) error {
			last[row] = uint32(leader)
			return like(row, leader)
		},
	})
}

// matching is what becomes of rows that are compared with the leaders of a band.
type matching struct {
	every bool                                 // a row goes on to the other leaders when it is like one
	known func(leader, row uint64) bool        // they are known to be alike: no need to look
	like  func(row, leader uint64) (err error) // they were found to be alike
}

// compare compares the rows of each band with its leaders: the first few that differ among themselves.
func (c *clusterer) compare(ctx context.Context, do matching) error {
	var lead [leaders][permutations]byte
	var names [leaders]uint64
	for rows, err := range c.bands.groups(ctx) {
		if err != nil {
			return err
		}
		n := 0
		for _, row := range rows {
			var unknown [leaders]int
			m := 0
			for i := range n {
				if !do.known(names[i], row) {
					unknown[m] = i
					m++
				}
			}
			follows := m < n
			if follows && (m == 0 || !do.every) {
				continue
			}
			var sig [permutations]byte
			if err := c.bytesOf(row, &sig); err != nil {
				return err
			}
			for _, i := range unknown[:m] {
				if similarity(&lead[i], &sig) < c.near.Threshold {
					continue
				}
				follows = true
				if err := do.like(row, names[i]); err != nil {
					return err
				}
				if !do.every {
					break
				}
			}
			if !follows && n < leaders {
				lead[n], names[n] = sig, row
				n++
			}
		}
	}
	return nil
}

// similarity estimates the Jaccard similarity by b-bit minwise hashing (Li and König 2010), b = 8: bytes of
// different minima are equal once in 256 times.
func similarity(a, b *[permutations]byte) float64 {
	const chance = 1.0 / 256
	return (float64(equalBytes(a, b))/permutations - chance) / (1 - chance)
}

// equalBytes counts the places where a and b are equal, eight at a time.
func equalBytes(a, b *[permutations]byte) int {
	const low = 0x7f7f7f7f7f7f7f7f
	equal := 0
	for i := 0; i < permutations; i += 8 {
		x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:])
		equal += bits.OnesCount64(^(x&low + low | x | low)) // the upper bit of each byte that is 0
	}
	return equal
}

// clusters is a forest over row numbers; the root of a cluster is its first row.
type clusters struct{ parent []uint32 } // 0: a root; else parent's number plus one

func (c *clusters) root(row uint64) uint64 {
	for row < uint64(len(c.parent)) && c.parent[row] != 0 {
		up := uint64(c.parent[row] - 1)
		if c.parent[up] != 0 {
			c.parent[row] = c.parent[up] // halve the path
		}
		row = up
	}
	return row
}

// flatten lets every row point to its root, so that root changes nothing and many goroutines may call it.
func (c *clusters) flatten() {
	for row := range c.parent {
		if c.parent[row] != 0 {
			c.parent[row] = uint32(c.root(uint64(row))) + 1
		}
	}
}

func (c *clusters) join(a, b uint64) {
	a, b = c.root(a), c.root(b)
	if a == b {
		return
	}
	if b < a {
		a, b = b, a
	}
	for uint64(len(c.parent)) <= b {
		c.parent = append(c.parent, make([]uint32, max(1024, len(c.parent)/2))...)
	}
	c.parent[b] = uint32(a) + 1
}
