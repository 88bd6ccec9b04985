package runner

import (
	"bytes"
	"runtime"
	"sync"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// chunkSize is how much of a large file is parsed at once: HCL's lexer copies its growing list of tokens, and chunks
// can be parsed side by side.
const chunkSize = 24 << 10

// parseHCL parses a file. A large one is cut behind lines that hold nothing but a closing brace. Such a line may also
// stand inside a block, comment or text; then the chunk before it has no end, which is a syntax error, and the
// file is parsed as a whole after all.
func parseHCL(src []byte, name string) (*hcl.File, hcl.Diagnostics) {
	if chunks := cutChunks(src); len(chunks) > 1 {
		if body, ok := parseChunks(src, chunks, name); ok {
			return &hcl.File{Body: body, Bytes: src}, nil
		}
	}
	file, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	if !diags.HasErrors() {
		useRoundedNumbers(file.Body.(*hclsyntax.Body))
	}
	return file, diags
}

// chunk is a part of a file that begins at a line's start.
type chunk struct {
	start hcl.Pos
	end   int // byte behind it
}

func cutChunks(src []byte) []chunk {
	var chunks []chunk
	start := hcl.InitialPos
	for len(src)-start.Byte > 2*chunkSize {
		at := bytes.Index(src[start.Byte+chunkSize:], []byte("\n}\n"))
		if at < 0 {
			break
		}
		end := start.Byte + chunkSize + at + len("\n}\n")
		chunks = append(chunks, chunk{start, end})
		start = hcl.Pos{Line: start.Line + bytes.Count(src[start.Byte:end], []byte("\n")), Column: 1, Byte: end}
	}
	return append(chunks, chunk{start, len(src)})
}

// parseChunks parses the chunks side by side and joins their bodies.
func parseChunks(src []byte, chunks []chunk, name string) (*hclsyntax.Body, bool) {
	bodies := make([]*hclsyntax.Body, len(chunks))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(chunks)) {
		workers.Go(func() {
			for i := range next {
				file, diags := hclsyntax.ParseConfig(src[chunks[i].start.Byte:chunks[i].end], name, chunks[i].start)
				if len(diags) == 0 {
					bodies[i] = file.Body.(*hclsyntax.Body)
					useRoundedNumbers(bodies[i])
				}
			}
		})
	}
	for i := range chunks {
		next <- i
	}
	close(next)
	workers.Wait()

	whole := &hclsyntax.Body{Attributes: hclsyntax.Attributes{}}
	for _, body := range bodies {
		if body == nil {
			return nil, false
		}
		for name, attr := range body.Attributes {
			if whole.Attributes[name] != nil {
				return nil, false // given twice, which the parser reports
			}
			whole.Attributes[name] = attr
		}
		whole.Blocks = append(whole.Blocks, body.Blocks...)
	}
	whole.SrcRange = hcl.RangeBetween(bodies[0].SrcRange, bodies[len(bodies)-1].SrcRange)
	whole.EndRange = bodies[len(bodies)-1].EndRange
	return whole, true
}
