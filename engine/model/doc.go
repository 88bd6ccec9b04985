// Package model is Qwen2, Qwen3 and Llama by hand: configuration, weights, LoRA adapters, forward and
// backward pass, and decoding with a key-value cache, over the operations of an ops.Device.
//
// Read forward.go from top to bottom and backward.go against it: each line of one has its line in the
// other, in the opposite order. lora.go says which linears get an adapter, weights.go where weights come
// from, plan.go where every activation lies. A step allocates nothing on the device.
//
// Names and files are those of Hugging Face and PEFT: a model folder has config.json and safetensors, an
// adapter folder adapter_config.json and adapter_model.safetensors, and what Save and Merge write is read
// by transformers, PEFT and vLLM. Frozen weights have no gradient, and no buffer for one.
package model
