// Package download brings files from Hugging Face-compatible hubs and from plain URLs, whole or not at all.
//
// A hub's repository is asked for three things: the commit that a branch stands at (Client.Resolve), the files of a
// commit with size and hash (Client.List), and the files themselves (Client.Snapshot). A file comes in ranges, several at
// once, from wherever the hub sends us: drops are resumed, signed addresses that expired are asked for again, rate
// limits are waited out. Nothing counts as downloaded before its size and its hash were compared with what the hub said;
// the token goes to the hub's own host and to nobody else.
//
// Files lie in the hub cache as the Python tools keep it (blobs by hash, refs, snapshots of relative links), so that
// they are downloaded once for all programs of a machine. Client.URL does the same for one file at an address, verified
// by a checksum.
//
// The package imports nothing of ours and reads no environment: Options holds all that HF_* variables say. Begin with
// hub.go, then snapshot.go; ranges.go is one file's way through a bad network.
package download
