// Package tracking is a client for MLflow's REST API 2.0, as its servers of version 2 and 3 speak it: experiments, runs,
// parameters, metrics, tags, data set inputs, artifacts, logged models, and the model registry.
//
// It says one request a call and holds no state but the connection. What is to survive a dead server is written to
// package spool first, which sends by this client; nothing that trains waits for a server.
//
// The server answers 200 to much that it does not understand: a value of a wrong type is stored as 0, and the rows behind
// it are dropped. So everything that leaves here is of the right form: numbers by appendMetric, names by CleanName,
// lengths by the Max constants. Read Client.call first.
package tracking
