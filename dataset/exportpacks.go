package dataset

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
)

// packRow is a pack in Parquet, as TRL's and axolotl's collators for packed rows take it.
type packRow struct {
	InputIDs    []int32 `parquet:"input_ids,list"`
	Labels      []int32 `parquet:"labels,list"`
	PositionIDs []int32 `parquet:"position_ids,list"`
	SeqLengths  []int32 `parquet:"seq_lengths,list"`
}

// ExportPacks writes the packs of t as Parquet into the folder dir: tokens-00000.parquet, a row a pack, with input_ids, labels
// (-100 where not trained on, and at the first token of each piece, which nothing predicts), position_ids, which begin anew with
// each piece, and seq_lengths, the tokens of each.
func ExportPacks(ctx context.Context, t *Tokens, packs *Packs, dir string, progress func(done, total int)) (err error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("export packs: %w", err)
	}
	out, err := createOut(filepath.Join(dir, "tokens-00000.parquet"))
	if err != nil {
		return fmt.Errorf("export packs: %w", err)
	}
	rows := parquet.NewGenericWriter[packRow](out.buf, parquet.Compression(&zstd.Codec{Level: zstd.SpeedFastest}), parquet.CreatedBy("lpipe", "1", "packs"), parquet.PageBufferSize(1<<20))
	defer func() {
		if err = errors.Join(err, rows.Close(), out.close()); err != nil {
			err = fmt.Errorf("export packs: %w", err)
		}
	}()
	var row packRow
	var pieces []Piece
	pending := 0
	for i := range packs.Len() {
		if i%256 == 0 {
			progress(i, packs.Len())
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		pieces = packs.Pack(i, pieces[:0])
		row.fill(t, pieces)
		if _, err := rows.Write([]packRow{row}); err != nil {
			return err
		}
		if pending += 12 * len(row.InputIDs); pending >= groupBytes {
			if pending, err = 0, rows.Flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// fill lays pieces one behind the other.
func (r *packRow) fill(t *Tokens, pieces []Piece) {
	r.InputIDs, r.Labels, r.PositionIDs, r.SeqLengths = r.InputIDs[:0], r.Labels[:0], r.PositionIDs[:0], r.SeqLengths[:0]
	var ids []int32
	var mask []bool
	for _, p := range pieces {
		ids, mask = t.IDs(p.Sequence, ids[:0]), t.Mask(p.Sequence, mask[:0])
		for k := range p.Count {
			id, label := ids[p.From+k], int32(-100)
			if k > 0 && mask[p.From+k] {
				label = id
			}
			r.InputIDs, r.Labels, r.PositionIDs = append(r.InputIDs, id), append(r.Labels, label), append(r.PositionIDs, int32(k))
		}
		r.SeqLengths = append(r.SeqLengths, int32(p.Count))
	}
}
