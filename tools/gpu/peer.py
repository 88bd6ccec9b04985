#!/usr/bin/env python3
"""peer.py gemm | train FOLDER ROWS LENGTH: torch and PEFT on the same shapes as lpipe's benchmarks. The last line is JSON.

Training is as transformers' Trainer does it: bf16 weights, LoRA r 16 on all linears by PEFT, SDPA (FlashAttention), no
gradient checkpointing unless memory runs out, AdamW fused; every token is a target; the same ids each step."""
import json
import sys
import time

import torch


def clock(work, least=5, seconds=8.0):
    work()
    work()
    torch.cuda.synchronize()
    began, times = time.monotonic(), 0
    while times < least or time.monotonic() - began < seconds:
        work()
        times += 1
        torch.cuda.synchronize()
    return (time.monotonic() - began) / times


def gemm():
    n = 8192
    a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    took = clock(lambda: a @ b, 20, 2.0)
    tflops = 2 * n**3 / took / 1e12
    return {"tflops": round(tflops, 1), "note": f"{tflops:.0f} TFLOP/s bf16, 8192 cubed"}


def train(folder, rows, length):
    import peft
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder)
    again = False
    while True:
        try:
            return step(peft, transformers, config, rows, length, again)
        except torch.cuda.OutOfMemoryError:
            if again:
                raise
            again = True
            torch.cuda.empty_cache()


def step(peft, transformers, config, rows, length, again):
    torch.manual_seed(1)
    with torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
        torch.set_default_dtype(torch.float32)
    if again:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    model.config.use_cache = False
    model = peft.get_peft_model(model, peft.LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    ids = torch.randint(0, config.vocab_size, (rows, length), device="cuda")

    def work():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()

    took = clock(work)
    speed = rows * length / took
    return {"tokens_per_s": round(speed, 1), "gradient_checkpointing": again, "peak_bytes": torch.cuda.max_memory_allocated(),
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__},
            "note": f"{speed:.0f} tokens/s" + (", with gradient checkpointing" if again else "")}


def main():
    if sys.argv[1] == "gemm":
        result = gemm()
    else:
        result = train(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    print(json.dumps(result))


main()
