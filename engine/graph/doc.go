// Package graph is Qwen2, Qwen3 and Llama as a Gorgonia graph, in float64: an independent witness for engine/model. It
// shares no code with the hand-written passes but the description of the model and its weights; its
// gradients are Gorgonia's automatic ones. It is slow and small on purpose: matrices only, no broadcasting, one
// head at a time, every attention score formed.
//
// Check compares three witnesses on random models: the hand-written gradients, the automatic ones, and
// central differences of the graph's loss. `lpipe engine check` prints what it returns.
//
// With the build tag cuda the package is empty: Gorgonia takes the tag for its own CUDA code, which needs cuDNN to build.
package graph
