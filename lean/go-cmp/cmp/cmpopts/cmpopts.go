// Package cmpopts is empty: tests of other modules import it, and `go mod tidy` wants to find it.
package cmpopts
