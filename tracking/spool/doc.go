// Package spool keeps on disk what a run has to tell a tracking server, and sends it: at once while the run goes on, or
// later, or after a kill. Nothing that trains waits for a server or fails because of one.
//
// A spool is a folder with an append-only file of records (doc/format-tracking.md). Writer appends, one process at a time;
// Sender reads from where the server's last answer left off and notes how far it came. Sending the same again is
// harmless: a run is found again by a tag, a metric's row is stored once, a parameter keeps its value. Of a metric, a
// step is written once, so that a training run that goes back to its checkpoint tells nothing twice.
package spool
