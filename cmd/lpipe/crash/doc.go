// Package crash disturbs a running lpipe, and looks at what is left.
//
// Run starts a program with a seccomp filter that stops each system call by which it, its threads and its children
// would change a file (calls_linux.go). A supervisor answers every one of them (supervise_linux.go): it lets it pass,
// lets it fail without running it, kills the program, or cuts the power. For the last, Disk (disk_linux.go) knows what a
// disk owes after a loss of power: the bytes of a file as of its last fsync, the names in a folder as of the folder's.
// Of what came after, nothing, some or all may be there.
//
// Nothing in lpipe knows of it: what is tested is the program that people run. The tests are the matrix: for every n,
// each command is disturbed at its n-th change, and must keep what doc/durability.md promises. Linux only.
package crash
