package stages

import (
	"context"
	"fmt"

	"lpipe/dataset"
	"lpipe/runner"
)

// Pack puts the sequences of a token folder into packs of a length, without tokenising anew.
type Pack struct {
	Length   int    `hcl:"length,optional" unit:"tokens" doc:"tokens of a pack"`
	Overlong string `hcl:"overlong,optional" doc:"a sequence longer than a pack: drop it, truncate it, or split it into several"`
}

func packKind() *runner.Kind {
	return &runner.Kind{
		Name:    "pack",
		Doc:     "Packs of another length, of tokens that there are.",
		Version: 1,
		In:      []runner.Port{{Name: "tokens", Doc: "token folder"}},
		Out:     []runner.Port{{Name: "packs", Doc: "pack index: which sequences make a pack"}},
		New:     func() runner.Stage { return &Pack{Length: 4096, Overlong: string(dataset.Drop)} },
	}
}

// Check finds settings that cannot be.
func (p *Pack) Check() error {
	if p.Length < 2 {
		return fmt.Errorf("length: must be at least 2, not %d", p.Length)
	}
	return among("overlong", p.Overlong, string(dataset.Drop), string(dataset.Truncate), string(dataset.Split))
}

// Run packs.
func (p *Pack) Run(_ context.Context, env *runner.Env) error {
	tokens, err := dataset.OpenTokens(one(env, "tokens"))
	if err != nil {
		return err
	}
	defer tokens.Close()
	counts, err := dataset.CreatePacks(env.Out["packs"], tokens, p.Length, dataset.Overlong(p.Overlong))
	if err != nil {
		return err
	}
	if counts.Packs == 0 {
		return fmt.Errorf("%s: not one of %d sequences fits into %d tokens: raise length, or set overlong", shown(env, one(env, "tokens")), tokens.Len(), p.Length)
	}
	full := 100 * float64(counts.Tokens) / (float64(counts.Packs) * float64(p.Length))
	logf(env, "packed %d sequences into %d packs of %d tokens, %.2f %% full", counts.Pieces, counts.Packs, p.Length, full)
	if counts.Overlong > 0 {
		logf(env, "%d sequences are longer than a pack (overlong = %q); %d parts of them have nothing to train on and were left out", counts.Overlong, p.Overlong, counts.Empty)
	}
	return nil
}
