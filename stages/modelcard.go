package stages

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"lpipe/dataset"
	"lpipe/engine"
	"lpipe/runner"
)

// writeModelCard puts a card (README.md) into the folder that training made: what it was made of, and the licences of the
// rows, which go on to bind whoever uses it.
func (t *Train) writeModelCard(env *runner.Env, result *engine.TrainResult) error {
	folder := env.Out["adapter"] + env.Out["model"] // one of the two is declared
	card := t.modelCard(filepath.Base(one(env, "model")), &result.Data, result)
	if err := writeFile(filepath.Join(folder, cardFile), []byte(card)); err != nil {
		return fmt.Errorf("write the model's card: %w", err)
	}
	return nil
}

// modelCard is Markdown behind the block of YAML that hubs read (huggingface.co/docs/hub, "Model Cards").
func (t *Train) modelCard(base string, data *dataset.Manifest, result *engine.TrainResult) string {
	names := slices.Sorted(maps.Keys(data.Licenses))
	var b strings.Builder
	b.WriteString("---\n")
	if len(names) == 1 {
		fmt.Fprintf(&b, "license: %q\n", names[0])
	} else if len(names) > 1 {
		b.WriteString("license:\n")
		for _, name := range names {
			fmt.Fprintf(&b, "- %q\n", name)
		}
	}
	what, how := "Adapter", fmt.Sprintf("%s, rank %d, alpha %g", t.Method, t.Rank, t.Alpha)
	if t.Method == "full" {
		what, how = "Model", "all weights"
		fmt.Fprintf(&b, "base_model: %q\npipeline_tag: text-generation\n", base)
	} else {
		fmt.Fprintf(&b, "base_model: %q\nlibrary_name: peft\npipeline_tag: text-generation\ntags:\n- lora\n", base)
	}
	fmt.Fprintf(&b, "---\n\n# %s trained on %s\n\n", what, base)
	kind := "sequences"
	if t.Method == "dpo" {
		kind = "pairs"
	}
	fmt.Fprintf(&b, "Made by lpipe: %s, %d steps over %d %s (%d tokens, %d of them trained on).\n", how, result.Steps, data.Sequences, kind, data.Tokens, data.Trained)
	b.WriteString("\n## Licences of the training data\n\n")
	known := int64(0)
	for _, name := range names {
		known += data.Licenses[name]
		fmt.Fprintf(&b, "- %s: %d %s\n", name, data.Licenses[name], kind)
	}
	if unknown := data.Sequences - known; unknown > 0 {
		fmt.Fprintf(&b, "- not known: %d %s\n", unknown, kind)
	}
	b.WriteString("\nWhat a licence asks for, such as no commercial use, naming the authors, or the same licence for what is made of the data,\nmay hold for this too. That of the base model holds in any case.\n")
	return b.String()
}
