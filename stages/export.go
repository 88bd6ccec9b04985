package stages

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"lpipe/dataset"
	"lpipe/runner"
)

// Export writes a token folder in another program's format.
type Export struct {
	Format string `hcl:"format,optional" doc:"parquet, megatron (Megatron-LM's indexed dataset), bin.tok (llmq, surogate), or arrow (datasets.load_from_disk)"`
}

func exportKind() *runner.Kind {
	return &runner.Kind{
		Name:    "export",
		Doc:     "Token folders in the formats of other trainers.",
		Version: 1,
		Shared:  true,
		In: []runner.Port{
			{Name: "tokens", Doc: "token folder"},
			{Name: "packs", Optional: true, Doc: "pack index of it: a row is a pack (parquet only)"},
		},
		Out: []runner.Port{{Name: "data", Folder: true, Doc: "folder in the other format"}},
		New: func() runner.Stage { return &Export{Format: "parquet"} },
	}
}

// Check finds formats that there are not.
func (e *Export) Check() error {
	if !slices.Contains(dataset.ExportFormats(), e.Format) {
		return fmt.Errorf("format: %q is not one of %s", e.Format, strings.Join(dataset.ExportFormats(), ", "))
	}
	return nil
}

// Run exports.
func (e *Export) Run(ctx context.Context, env *runner.Env) error {
	tokens, err := dataset.OpenTokens(one(env, "tokens"))
	if err != nil {
		return err
	}
	defer tokens.Close()
	if tokens.Len() == 0 {
		return fmt.Errorf("%s: no sequences in it to export", shown(env, one(env, "tokens")))
	}
	progress := func(done, total int) {
		tell(env, runner.Event{Done: float64(done), Total: float64(total), Unit: "sequences", Message: "exporting"})
	}
	if path := one(env, "packs"); path != "" {
		return e.packs(ctx, env, tokens, path, progress)
	}
	if err := dataset.Export(ctx, tokens, env.Out["data"], e.Format, progress); err != nil {
		return err
	}
	logf(env, "exported %d sequences, %d tokens, as %s", tokens.Len(), tokens.Manifest().Tokens, e.Format)
	return nil
}

// packs exports a row a pack.
func (e *Export) packs(ctx context.Context, env *runner.Env, tokens *dataset.Tokens, path string, progress func(done, total int)) error {
	if e.Format != "parquet" {
		return fmt.Errorf("format: %q has no packs; export them as parquet, or take the input packs away", e.Format)
	}
	packs, err := dataset.OpenPacks(path, tokens)
	if err != nil {
		return err
	}
	defer packs.Close()
	if err := dataset.ExportPacks(ctx, tokens, packs, env.Out["data"], progress); err != nil {
		return err
	}
	logf(env, "exported %d packs of up to %d tokens", packs.Len(), packs.Length())
	return nil
}
