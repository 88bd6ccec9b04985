// Package ops names the operations that a device must provide to train and run a Qwen2-architecture
// model: about thirty layer-level operations, forward and backward in pairs, over plain buffers.
//
// There are no tensor objects and no automatic differentiation: a model calls these operations in
// order, and calls their backward halves in the opposite order. Read Device from top to bottom;
// engine/cpu implements it (each operation's plain loops beside its fast form) and opstest checks any
// implementation against float64.
//
// # Sizes
//
// A batch of B rows of T tokens is always seen flat, as N = B·T tokens: which tokens see each other is
// said by the start of each token's document, not by a second axis.
//
//	N tokens (B·T)      C width of the residual stream     F width of the feed-forward layer, or of any linear's output
//	H query heads       KV key and value heads, H%KV = 0   D width of one head (even)
//	V vocabulary rows   R rank of an adapter               S cache slots, M positions in one slot
//
// All matrices are row-major. A linear's weight is [out, in] as in Hugging Face files. Query, key and
// value are one matrix qkv [N, (H+2·KV)·D], columns q | k | v, made by one linear whose weight stacks
// the rows of q_proj, k_proj, v_proj; gate and up are one matrix [N, 2F] likewise. Since rows are
// contiguous, each projection's own weight is a slice of the stack.
//
// # Conventions
//
// Arguments: outputs first, then inputs, then numbers, then sizes. "Sets" overwrites, "adds"
// accumulates. The zero Buf means "absent" wherever an operation says that an argument may be. Outputs
// must not overlap inputs unless the operation says so. Results do not depend on the number of
// threads, bit for bit.
//
// Wrong sizes and foreign handles are bugs of the caller and panic with a constant message. Everything
// that may go wrong at run time (memory, a lost device) is kept by the device and returned by Err, so
// that a forward pass reads as a straight list of calls; after an error further calls do nothing.
package ops
