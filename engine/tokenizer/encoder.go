package tokenizer

import "unsafe"

// Mode says which added tokens are recognised in a text.
type Mode int

// The modes. Hugging Face's default is Parse; its split_special_tokens=True is
// KeepAdded.
const (
	Plain     Mode = iota // none: the safe mode for what users wrote
	KeepAdded             // only those that are not special, such as <tool_call>
	Parse                 // all
)

// Encoder encodes; it belongs to one goroutine at a time, and shares a cache with the others of
// its tokenizer.
type Encoder struct {
	v          *vocabulary
	template   *chatTemplate
	jinja      *jinjaTemplate // the template, parsed, once it was needed
	cutter     pieceCutter
	blocks     blockScanner
	bounds     []uint32 // scratch: where pretokens begin
	wanted     [128]wantedPiece
	normalizer normalizer
	valid, nfc []byte // scratch
	replaced   int64
	merger     merger
	density    float64 // ids a byte in the last longer text; 0: none was yet
}

// Replaced counts the ill-formed parts that became U+FFFD since the encoder was made.
func (e *Encoder) Replaced() int64 { return e.replaced }

// Encode appends the ids of text; control text becomes control tokens only with
// parseSpecial.
func (e *Encoder) Encode(dst []int32, text string, parseSpecial bool) []int32 {
	if parseSpecial {
		return e.EncodeMode(dst, text, Parse)
	}
	return e.EncodeMode(dst, text, Plain)
}

// EncodeMode is Encode with all three modes.
func (e *Encoder) EncodeMode(dst []int32, text string, mode Mode) []int32 {
	s := unsafe.Slice(unsafe.StringData(text), len(text)) // read only
	for i := 0; i < len(s); {
		at, end, token := e.v.added.raw.find(s, i, mode)
		dst = e.encodeText(dst, s[i:at], mode)
		i = end
		if token != nil {
			dst = append(dst, token.ID)
		}
	}
	return dst
}

// keepScratch is the size of a scratch buffer that is worth keeping.
const keepScratch = 1 << 20

// encodeText encodes text in which no added token is looked for as it stands.
func (e *Encoder) encodeText(dst []int32, s []byte, mode Mode) []int32 {
	valid, nfc := e.v.tables.inspect(s)
	if !valid {
		n := 0
		e.valid, n = appendValid(e.valid[:0], s)
		e.replaced += int64(n)
		s = e.valid
		_, nfc = e.v.tables.inspect(s)
	}
	if !nfc && e.v.nfc {
		e.nfc = e.normalizer.appendNFC(e.nfc[:0], s)
		s = e.nfc
	}
	for i := 0; i < len(s); {
		at, end, token := e.v.added.later.find(s, i, mode)
		dst = e.encodeNormal(dst, s[i:at])
		i = end
		if token != nil {
			dst = append(dst, token.ID)
		}
	}
	if cap(e.valid) > keepScratch {
		e.valid = nil
	}
	if cap(e.nfc) > keepScratch {
		e.nfc, e.normalizer.chunk = nil, nil
	}
	if cap(e.merger.ids) > keepScratch/16 {
		e.merger = merger{}
	}
	return dst
}

// encodeNormal encodes valid, normalised text: where pretokens begin is found for some
// thousands at a time, then each is looked up.
func (e *Encoder) encodeNormal(dst []int32, s []byte) []int32 {
	if e.v.pre.digits == 0 {
		e.cutter.cut(e.v.pre, s, func(piece []byte) { dst = e.piece(dst, piece) })
		return dst
	}
	if len(s) > maxText {
		cut := e.v.cut(s, maxText/2)
		if cut == len(s) {
			return e.encodePlainly(dst, s)
		}
		return e.encodeNormal(e.encodeNormal(dst, s[:cut]), s[cut:])
	}
	e.blocks.reset(e.v.pre.digits, e.v.tables)
	bounds, i, before := e.bounds[:0], 0, len(dst)
	for i < len(s) {
		bounds, i = e.blocks.scan(s, i, bounds, someBounds)
		if i == len(s) {
			bounds = append(bounds, uint32(len(s)))
		}
		if len(bounds) < 2 {
			continue
		}
		dst = e.pieces(dst, s, bounds)
		bounds = append(bounds[:0], bounds[len(bounds)-1])
	}
	e.bounds = bounds
	if len(s) >= longText {
		e.density = float64(len(dst)-before) / float64(len(s))
	}
	return dst
}

const (
	someBounds = 2048    // that many positions and some more stay in the nearest cache
	maxText    = 1 << 31 // positions have 32 bits
	longText   = 1 << 12 // that many bytes tell how many ids the next ones make
)

// encodePlainly encodes a text that is too long for blocks and cannot be cut.
func (e *Encoder) encodePlainly(dst []int32, s []byte) []int32 {
	for i := 0; i < len(s); {
		end := pretokenEnd(s, i, e.v.pre.digits)
		dst = e.piece(dst, s[i:end])
		i = end
	}
	return dst
}

// pieces appends the ids of the pretokens between bounds. Most have at most 15 bytes and are
// in the cache; then two words are compared and four ids copied, however many of them count.
func (e *Encoder) pieces(dst []int32, s []byte, bounds []uint32) []int32 {
	n := len(bounds) - 1
	for n > 0 && int(bounds[n-1])+16 > len(s) {
		n-- // a key is read as 16 bytes
	}
	for k := 0; k < n; {
		table, batch := e.v.cache.table.Load(), e.wanted[:min(len(e.wanted), n-k)]
		table.prepare(batch, s, bounds[k:])
		for done := 0; done < len(batch); done++ {
			if room := 4 * (len(batch) - done); cap(dst)-len(dst) < room {
				dst = e.grown(dst, room, len(s)-int(bounds[k]))
			}
			found := 0
			dst, found = table.emit(dst, batch[done:])
			if done += found; done < len(batch) {
				at := k + done
				dst = e.missed(dst, s[bounds[at]:bounds[at+1]], &batch[done])
			}
		}
		k += len(batch)
	}
	for k := n; k < len(bounds)-1; k++ {
		dst = e.piece(dst, s[bounds[k]:bounds[k+1]])
	}
	return dst
}

// grown is dst with room for that many more ids, and for what the rest of the text probably makes. Its memory is made by make,
// for append would clear what nobody uses yet.
func (e *Encoder) grown(dst []int32, room, rest int) []int32 {
	density := e.density
	if density == 0 {
		density = 1. / 3
	}
	size := len(dst) + room + int(float64(rest)*density*1.05)
	next := make([]int32, len(dst), max(size, cap(dst)+cap(dst)/4))
	copy(next, dst)
	return next
}

// missed appends the ids of a pretoken that has none in its own cache line.
func (e *Encoder) missed(dst []int32, piece []byte, w *wantedPiece) []int32 {
	if len(piece) > longMax {
		return e.merge(dst, piece)
	}
	dst, found := e.v.cache.table.Load().find(dst, w, piece)
	if found {
		return dst
	}
	from := len(dst)
	dst = e.merge(dst, piece)
	e.v.cache.add(w, piece, dst[from:])
	return dst
}

// piece appends the ids of a pretoken of any length, wherever it stands.
func (e *Encoder) piece(dst []int32, piece []byte) []int32 {
	var w wantedPiece
	if len(piece) > shortMax {
		w = wantedLong(piece)
	} else {
		var text [16]byte
		copy(text[:], piece)
		w = wantedAt(text[:], len(piece))
	}
	return e.missed(dst, piece, &w)
}

// merge appends the ids of a pretoken that the cache has not.
func (e *Encoder) merge(dst []int32, piece []byte) []int32 {
	if e.v.whole != nil {
		if id, found := e.v.whole.find(piece); found {
			return append(dst, id)
		}
	}
	return e.merger.merge(dst, e.v, piece)
}
