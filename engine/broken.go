package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"lpipe/engine/model"
)

// broken says why a model computes no finite loss although it was not trained: which of its tensors, or of the adapter's, hold
// values that are no numbers. It reads all weights, which is worth it only when that has happened. "" if all are finite.
func broken(ctx context.Context, dir, adapter string) string {
	for _, adapter := range slices.Compact([]string{"", adapter}) { // the base first: its NaN would stand in every sum
		f, err := model.OpenFolder(dir, adapter)
		if err != nil {
			return ""
		}
		names := notFinite(ctx, f)
		f.Close()
		if len(names) == 0 {
			continue
		}
		where, remedy := dir, "take the model's files again from where they come from"
		if adapter != "" {
			where, remedy = adapter, "train the adapter again"
		}
		const most = 5
		if more := len(names) - most; more > 0 {
			names = append(names[:most], fmt.Sprintf("%d more", more))
		}
		return fmt.Sprintf("%s holds NaN or infinite values in %s: %s", where, strings.Join(names, ", "), remedy)
	}
	return ""
}

// notFinite names the tensors that hold NaN or infinities, with the adapter's part added.
func notFinite(ctx context.Context, f *model.Folder) (names []string) {
	for _, t := range f.Tensors() {
		if ctx.Err() != nil {
			return names
		}
		values, err := t.Values()
		if err == nil && slices.ContainsFunc(values, func(v float32) bool { return !finite(float64(v)) }) {
			names = append(names, t.Name)
		}
	}
	return names
}

// diverged is the error of a run whose loss is no number. what says where; remedy is for weights that were finite at the beginning.
func (r *run) diverged(ctx context.Context, what, remedy string) error {
	for _, p := range r.Curve {
		if p.Loss != nil {
			return fmt.Errorf("%s: %s", what, remedy)
		}
	}
	if why := broken(ctx, r.Model, r.From); why != "" {
		return fmt.Errorf("%s: %s", what, why)
	}
	return errors.New(what + ": " + remedy)
}
