// Package plot shows curves of runs: in a terminal, and on a page that is one file.
//
// Read (read.go) takes the curves out of a JSON or JSONL file, Smooth and Reduce (reduce.go) make them calmer and
// smaller, Chart.Draw (chart.go) draws some in characters of the Braille block, Page.Write (page.go) writes them,
// with a table of runs, as HTML that loads nothing: page.html is its frame, page.js what happens in it.
//
// Curves are drawn as they are: a point without a number is a gap, nothing is sorted, and where points are put
// together, the lowest and the highest of them stay.
package plot
