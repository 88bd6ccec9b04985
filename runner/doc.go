// Package runner turns pipeline files into a plan and the plan into finished, locked outputs.
//
// Read kind.go for what a stage is, pipeline.go for what a decoded file is, then step.go, which does the
// work: inputs to key, key to result, result to workspace.
package runner
