// Package cmp stands in for github.com/google/go-cmp/cmp. The original is made for tests, and compiles expressions at start;
// hclwrite compares two nodes with it in a method that nothing calls.
package cmp

import "reflect"

// Equal tells whether two values are deeply equal.
func Equal(x, y any) bool { return reflect.DeepEqual(x, y) }
