// Package stages holds the built-in stage kinds, one file each; list.go names them all.
//
// The settings of a kind are the exported fields of its struct, which runner.Decode fills. A stage sees
// paths, never hashes; it streams, says in its log what it dropped and why, and gives the same output for the
// same input whatever the number of processors.
package stages
