// Package dvc reads a DVC project and writes it as a pipeline file of lpipe.
//
// Convert is the whole of it: dvc.yaml files with their templates, .dvc files, remotes of .dvc/config in, the text of a
// pipeline.hcl and notes on what has no counterpart out. Templates stay alive: ${train.lr} becomes
// ${local.params.train.lr}, foreach becomes for_each. Checkout copies what the workspace lacks from DVC's cache.
//
// Read first: convert.go for the order of things, stage.go for one stage, template.go for ${…}. What is read is described
// at https://doc.dvc.org/user-guide/project-structure.
package dvc
