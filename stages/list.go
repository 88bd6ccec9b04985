package stages

import "lpipe/runner"

// Kinds is every built-in kind, in the order of the reference pipeline, shell last.
func Kinds() []*runner.Kind {
	return []*runner.Kind{
		convertKind(),
		preprocessKind(),
		validateKind(),
		mixKind(),
		tokenizeKind(),
		splitKind(),
		packKind(),
		exportKind(),
		trainKind(),
		evaluateKind(),
		mergeKind(),
		Shell(),
	}
}
