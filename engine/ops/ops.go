package ops

// Device is a place where a model's numbers live and are computed on. A Device is used by one
// goroutine at a time; what it does inside is its own affair.
//
// Operations may run later than the call: Read, ReadInts, ReadWeight and Err wait for all before them.
type Device interface {
	Memory

	// Embedding sets out[n] = w[ids[n]].
	// Shapes: out [N, C]; w [V, C]; ids [N], each in [0, V).
	Embedding(out Buf, w Weight, ids Ints, N, C int)

	// EmbeddingBackward adds dout[n] to dw[ids[n]], for n rising.
	// Shapes: dw [V, C]; dout [N, C]; ids [N].
	EmbeddingBackward(dw, dout Buf, ids Ints, N, C int)

	// RMSNorm sets rstd[n] = 1/√(Σ_c x[n,c]²/C + eps) and out = x·rstd·w
	// (Zhang and Sennrich 2019, arXiv 1910.07467, equation 4).
	// Shapes: out, x [N, C]; rstd [N]; w [C]. out may be x.
	RMSNorm(out, rstd, x, w Buf, eps float32, N, C int)

	// RMSNormBackward adds to dx: rstd·(w·dout) - x·rstd³·dot/C with dot = Σ_c w·dout·x, and to dw, which
	// may be absent, Σ_n dout·x·rstd.
	// Shapes: dx, dout, x [N, C]; dw, w [C]; rstd [N].
	RMSNormBackward(dx, dw, dout, x, w, rstd Buf, N, C int)

	// Linear sets y = x Wᵀ + bias and adds each adapter's y[:, Col:Col+F] += Scale·xa Bᵀ. It sets
	// xa = dropout(x) Aᵀ, which the backward half needs: adapter after adapter, each [N, R] as a block of
	// its own.
	// Shapes: y [N, F]; xa N·ΣR values; x [N, C]; w [F, C]; bias [F], may be absent. xa is absent without adapters.
	Linear(y, xa, x Buf, w Weight, bias Buf, lora []LoRA, N, C, F int)

	// LinearBackward sets dx = dy W + Σ dropout'(Scale·dy B A), or adds it where add is true; dx may be
	// absent. To each adapter's gradients it adds
	//	DB += Scale·dyᵀ xa      DA += Scale·(dy B)ᵀ dropout(x)
	// with dy the adapter's own columns. The full dW is never formed.
	// Shapes: dx, x [N, C]; dy [N, F]; xa as Linear left it; w [F, C]. x and xa may be absent without adapters.
	LinearBackward(dx, dy, x, xa Buf, w Weight, lora []LoRA, add bool, N, C, F int)

	// LinearWeightBackward adds dyᵀ x to dw and Σ_n dy[n] to db; each may be absent.
	// Shapes: dw [F, C]; db [F]; dy [N, F]; x [N, C].
	LinearWeightBackward(dw, db, dy, x Buf, N, C, F int)

	// LinearMerge adds to w its adapters: w[Col:Col+F] += Scale·B A, rounded once to w's type. An NF4 weight is an
	// error: its blocks would be quantised anew.
	// Shapes: w [F, C].
	LinearMerge(w Weight, lora []LoRA, C, F int)

	// DoRAGain sets, for the rows of w that an adapter with a magnitude M adds to,
	//	norms[f] = ‖w[f] + Scale·(B A)[f]‖      gain[f] = M[f]/norms[f]
	// and 1 for the other rows (Liu et al. 2024, arXiv 2402.09353, equation 5).
	// Shapes: gain, norms [F]; w [F, C].
	DoRAGain(gain, norms Buf, w Weight, lora []LoRA, C, F int)

	// DoRA sets y = gain·z + bias, where z is what Linear made without a bias.
	// Shapes: y, z [N, F]; gain [F]; bias [F], may be absent. y may be z.
	DoRA(y, z, gain, bias Buf, N, F int)

	// DoRABackward sets dz = gain·dy and adds Σ_n dy[n]·z[n]/norms to each DM that is present. The norms count as constants,
	// as in PEFT (section 4.3 of the paper).
	// Shapes: dz, dy, z [N, F]; gain, norms [F]. dz may be dy.
	DoRABackward(dz, dy, z, gain, norms Buf, lora []LoRA, N, F int)

	// RoPETable sets cos[n,j] and sin[n,j] of the angle positions[n]·freq[j], the product rounded to
	// float32 as transformers computes it.
	// Shapes: cos, sin [N, D/2]; freq [D/2]; positions [N].
	RoPETable(cos, sin, freq Buf, positions Ints, N, D int)

	// RoPE rotates the query and key heads of qkv in place: with a = x[j], b = x[j+D/2],
	//	x[j] = a·cos - b·sin      x[j+D/2] = b·cos + a·sin
	// (Su et al. 2021, arXiv 2104.09864, in the half-split form of transformers' rotate_half).
	// Shapes: qkv [N, (H+2·KV)·D]; cos, sin [N, D/2].
	RoPE(qkv, cos, sin Buf, N, H, KV, D int)

	// RoPEBackward rotates the query and key heads of dqkv in place by the opposite angle.
	RoPEBackward(dqkv, cos, sin Buf, N, H, KV, D int)

	// Attention sets, for every token n and head h with the key head h/(H/KV),
	//	s[m] = scale·q[n]·k[m]      out[n] = Σ_m exp(s[m]-lse[n])·v[m]      lse[n] = log Σ_m exp(s[m])
	// over m in starts[n] … n: causal, and only within the token's own document (Dao et al. 2022,
	// arXiv 2205.14135, keeps the log-sum instead of the probabilities). A padding token names itself.
	// starts never falls with n, and starts[n] ≤ n.
	// Shapes: out [N, H·D]; lse [N, H]; qkv [N, (H+2·KV)·D]; starts [N].
	Attention(out, lse, qkv Buf, starts Ints, scale float32, N, H, KV, D int)

	// AttentionBackward sets dqkv. With p = exp(s-lse), delta[n] = dout[n]·out[n], ds = p·(dout·v - delta):
	//	dq[n] = scale·Σ_m ds·k[m]      dk[m] = scale·Σ_n ds·q[n]      dv[m] = Σ_n p·dout[n]
	// where a key head sums over its H/KV query heads.
	// Shapes: dqkv, qkv [N, (H+2·KV)·D]; dout, out [N, H·D]; lse [N, H]; starts [N].
	AttentionBackward(dqkv, dout, out, lse, qkv Buf, starts Ints, scale float32, N, H, KV, D int)

	// CacheStore copies key and value of each token into its place in the cache: slot[n], position at[n].
	// Shapes: cache S·CacheSize(M, KV, D) values; qkv [N, (H+2·KV)·D]; slot, at [N].
	CacheStore(cache, qkv Buf, slot, at Ints, M, N, H, KV, D int)

	// AttentionCached sets out as Attention does, with the keys and values of cache slot slot[n] at
	// positions 0 … at[n]; the token's own were stored before by CacheStore.
	// Shapes: out [N, H·D]; qkv [N, (H+2·KV)·D]; cache as in CacheStore; slot, at [N].
	AttentionCached(out, qkv, cache Buf, slot, at Ints, scale float32, M, N, H, KV, D int)

	// SwiGLU sets h = silu(gate)·up with silu(z) = z/(1+exp(-z)) (Shazeer 2020, arXiv 2002.05202).
	// Shapes: h [N, F]; gateUp [N, 2F], columns gate | up.
	SwiGLU(h, gateUp Buf, N, F int)

	// SwiGLUBackward sets dgateUp: with s = 1/(1+exp(-gate)),
	//	dgate = dh·up·s·(1+gate·(1-s))      dup = dh·gate·s
	// Shapes: dgateUp, gateUp [N, 2F]; dh [N, F]. dgateUp may be gateUp.
	SwiGLUBackward(dgateUp, dh, gateUp Buf, N, F int)

	// Add sets out = a + b, n values each. out may be a or b.
	Add(out, a, b Buf, n int)

	// HeadLoss is the output head and its cross-entropy in one, in chunks: the logits x Wᵀ of all tokens
	// never exist together. For tokens with targets[n] ≥ 0, nll[n] = log Σ_v exp(logit[v]) - logit[target];
	// other tokens have nll 0 and no gradient.
	//	loss += scale·Σ nll      dx = scale·(softmax - onehot) W      dw += scale·(softmax - onehot)ᵀ x
	// It adds to loss and dw and sets nll and dx. nll, dx and dw may be absent: dx for evaluation, dw for a frozen head.
	// Shapes: loss [1]; nll [N]; dx, x [N, C]; dw, w [V, C]; targets [N], each < V.
	HeadLoss(loss, nll, dx, dw, x Buf, w Weight, targets Ints, scale float32, N, C, V int)

	// Logits sets logits[i] = x[rows[i]] Wᵀ for the chosen rows.
	// Shapes: logits [len(rows), V]; x [N, C]; w [V, C]; rows each in [0, N).
	Logits(logits, x Buf, w Weight, rows Ints, N, C, V int)

	// QKNorm divides each query head of qkv by its root mean square and multiplies it by wq, each key head by wk, in place
	// (RMSNorm over rows of D, as in Qwen3: arXiv 2505.09388, section 2). Value heads stay. For the backward pass it
	// sets raw to what the heads were, and rstd to 1/√(Σ x²/D + eps) of each; both may be absent.
	// Shapes: raw [N, (H+KV)·D]; rstd [N, H+KV]; qkv [N, (H+2·KV)·D]; wq, wk [D].
	QKNorm(raw, rstd, qkv, wq, wk Buf, eps float32, N, H, KV, D int)

	// QKNormBackward turns the gradient behind QKNorm into the one before it, in place: of each query and key head
	// rstd·(w·dy) - x·rstd³·dot/D with dot = Σ w·dy·x. To dwq and dwk, which may be absent, it adds Σ dy·x·rstd.
	// Shapes: dqkv [N, (H+2·KV)·D]; dwq, dwk, wq, wk [D]; raw, rstd as QKNorm set them.
	QKNormBackward(dqkv, dwq, dwk, raw, rstd, wq, wk Buf, N, H, KV, D int)

	// Scale multiplies n values by s.
	Scale(x Buf, s float32, n int)

	// ScaleRows multiplies x[n] by s[n].
	// Shapes: x [N, C]; s [N].
	ScaleRows(x, s Buf, N, C int)

	// PairWeights sets how much a loss of preferences grows with that of each token (Rafailov et al. 2023, arXiv 2305.18290, equation 7,
	// whose mean it is over so many pairs). Pair k < K is two texts: the chosen one, tokens ends[2k-1] … ends[2k]-1 where
	// ends[-1] is 0, and the rejected one, up to ends[2k+1]-1. With reward = beta·(Σ reference - Σ nll) of a text, in float64,
	//	weight[n] = ±beta/(1 + exp(reward(chosen) - reward(rejected)))/pairs
	// + in the chosen text, - in the rejected one. Behind the last pair it is 0.
	// Shapes: weight, nll, reference [N]; ends [2·K], rising.
	PairWeights(weight, nll, reference Buf, ends Ints, beta float64, pairs, N, K int)

	// SumSquares adds Σ x² of n values to sum, which holds one value. The sum is taken in float64.
	SumSquares(sum, x Buf, n int)

	// ClipFactor sets factor = min(1, limit/(√squares + 1e-6)), worked out in float64 as torch's clip_grad_norm_ has it; 1 where
	// limit is 0; NaN where loss or squares is no finite number.
	// Shapes: factor, loss, squares [1].
	ClipFactor(factor, loss, squares Buf, limit float64)

	// AdamW makes one step of n values, with g = GradScale·Factor·grad (Loshchilov and Hutter 2017, arXiv 1711.05101, as torch):
	//	p -= LR·Decay·p      m += (1-Beta1)·(g-m)      v = Beta2·v + (1-Beta2)·g²
	//	p -= LR/(1-Beta1^Step) · m / (√v/√(1-Beta2^Step) + Eps)
	AdamW(p, m, v, grad Buf, o AdamW, n int)

	// Lion makes one step of n values, with g = GradScale·Factor·grad (Chen et al. 2023, arXiv 2302.06675, algorithm 2):
	//	p -= LR·Decay·p      p -= LR·sign(Beta1·m + (1-Beta1)·g)      m = Beta2·m + (1-Beta2)·g
	// The sign of 0 is 0.
	Lion(p, m, grad Buf, o Lion, n int)

	// Noise adds amount[n]·u to each of x[n], u uniform in [-1, 1) as MaskBits of seed and the place has it
	// (NEFTune: Jain et al. 2023, arXiv 2310.05914).
	// Shapes: x [N, C]; amount [N].
	Noise(x, amount Buf, seed uint64, N, C int)
}

// Memory is how values get into a device and out of it. Allocated memory is zero. Allocate once and
// slice: an allocation during training is a bug of the model.
type Memory interface {
	// Alloc returns a buffer of n zeros; after an error an absent-looking one that every call ignores.
	Alloc(n int) Buf
	// AllocInts returns n zeros.
	AllocInts(n int) Ints
	// AllocWeight returns a zero matrix [rows, cols] stored as t.
	AllocWeight(t Type, rows, cols int) Weight
	// Free gives an allocation back; the handle is one that Alloc returned, not a slice.
	Free(b Buf)
	FreeInts(b Ints)
	FreeWeight(w Weight)

	// Write copies src into dst, Read copies src into dst; lengths are equal.
	Write(dst Buf, src []float32)
	Read(dst []float32, src Buf)
	WriteInts(dst Ints, src []int32)
	ReadInts(dst []int32, src Ints)
	// WriteWeight stores whole rows from row on, len(src)/Cols of them; ReadWeight is its opposite.
	WriteWeight(dst Weight, row int, src []float32)
	ReadWeight(dst []float32, src Weight, row int)
	// WriteNF4 stores whole rows of an NF4 weight as they are: codes as package nf4 packs them, and one absmax for 64 of
	// them. A checkpoint's codes go in so; WriteWeight would quantise anew.
	WriteNF4(dst Weight, row int, codes []uint8, absmax []float32)

	// Copy copies n values on the device.
	Copy(dst, src Buf, n int)
	// Zero clears a buffer.
	Zero(b Buf)

	// Info describes the device.
	Info() Info
	// Failed returns the first error that is known by now. It does not wait: what was called before may still run.
	Failed() error
	// Err waits for everything before it and returns the first error there was.
	Err() error
	// Close ends the device's threads and frees its memory. No handle is valid after it.
	Close() error
}

// CacheSize is the number of values of one slot of a key-value cache of M positions: keys [KV, M, D], then
// values [KV, M, D].
func CacheSize(M, KV, D int) int { return 2 * KV * M * D }
