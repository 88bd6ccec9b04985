// Package engine trains: it turns token folders into optimiser steps, drives the model through them, keeps
// checkpoints, evaluates and generates.
//
// The model (engine/model) knows mathematics, the device (engine/ops) knows memory and speed; this package knows
// time. Read train.go first, from top to bottom: what a run checks before it starts, the loop, what a step is. Then
// batches.go (which rows make a step, and why that depends on nothing but seed and step number), optimizer.go,
// checkpoint.go (how a killed run goes on, bit for bit), evaluate.go and generate.go.
//
// Promises: the same settings, data and device give the same bits, however often a run was interrupted and with
// whatever number of threads. No clock, no environment and no global state has a say in a result.
package engine
