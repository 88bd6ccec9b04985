// Package recorder writes what a runner reports into a spool: a run for each repro or sweep, below it one for each stage
// that runs, with its settings as parameters, its metrics and curves, its inputs, and the files worth a look.
//
// Recorder.Event takes the runner's events, in their order; nothing is written before the first stage runs. Of a run that
// was interrupted or failed the next command goes on, as long as variables and settings are the same; a stage with the
// same key goes on in the run that it has there.
package recorder
