#!/usr/bin/env python3
"""LoRA training steps and greedy decoding of lpipe beside torch + PEFT: same model folder, same token ids, same threads.

Needs a Python with torch, transformers and peft for the peer: LPIPE_BENCH_PYTHON, or build/parity-venv, which is
made from PyPI (about 3 GB) unless LPIPE_BENCH=quick. Prints Markdown tables; the losses must agree. ROWS="small 0.5b" takes
some rows: those whose name contains one of the words.
"""
import json, os, subprocess, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LPIPE = ROOT / "bin" / "lpipe"
PINS = ROOT / "tools" / "parity" / "requirements.txt"
def shape(hidden, layers, heads, ffn, vocab):
    return dict(hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=2, intermediate_size=ffn, vocab_size=vocab, tie_word_embeddings=True)


DEMO, SMALL, MIDDLE, LARGE = shape(128, 4, 4, 352, 512), shape(256, 4, 4, 688, 2048), shape(512, 8, 8, 1376, 8192), shape(896, 24, 14, 4864, 151936)
# name, config, type of the weight file, rows, tokens a row, precision, decode. The last shape is Qwen2.5-0.5B's, whose weights are bfloat16.
ROWS = [
    ("demo: hidden 128, 4 layers, vocab 512, 64 × 64", DEMO, "float32", 64, 64, "fp32", False),
    ("small: hidden 256, 4 layers, vocab 2048, 8 × 128", SMALL, "float32", 8, 128, "fp32", False),
    ("middle: hidden 512, 8 layers, vocab 8192, 4 × 256", MIDDLE, "float32", 4, 256, "fp32", False),
    ("0.5b: Qwen2.5-0.5B's shape, 1 × 256, fp32", LARGE, "bfloat16", 1, 256, "fp32", False),
    ("0.5b: the same, bf16", LARGE, "bfloat16", 1, 256, "bf16", False),
    ("0.5b: the same, bf16, torch without bf16 instructions", LARGE, "bfloat16", 1, 256, "bf16-plain", False),
    ("middle, greedy decoding, batch 1", MIDDLE, "float32", 1, 32, "fp32", True),
    ("0.5b, greedy decoding, batch 1, fp32", LARGE, "bfloat16", 1, 32, "fp32", True),
    ("0.5b, greedy decoding, batch 1, bf16", LARGE, "bfloat16", 1, 32, "bf16", True),
]
ROUNDS = 3  # the two take turns, and of each the fastest counts: what else the machine does only slows them down
PEER = r'''
import json, sys, time, resource, torch
from transformers import AutoModelForCausalLM
from peft import LoraConfig, get_peft_model
model_dir, ids_file, batch, length, threads, seconds, precision, decode = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]), float(sys.argv[6]), sys.argv[7], sys.argv[8] == "True"
torch.set_num_threads(threads)
torch.manual_seed(1)
model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32 if precision == "fp32" else torch.bfloat16)
ids = torch.tensor(json.load(open(ids_file))).reshape(batch, length)
losses, start, steps = [], None, 0
if decode:
    per_step = batch
    model.eval()
    torch.set_grad_enabled(False)
    out = model(input_ids=ids, use_cache=True)
    def step():
        global out
        out = model(input_ids=out.logits[:, -1:].argmax(-1), past_key_values=out.past_key_values, use_cache=True)
        return 0.0
else:
    per_step = batch * length
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, weight_decay=0)
    def step():
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward(); opt.step(); opt.zero_grad()
        return loss.item()
while True:
    losses.append(step())
    if start is None: start = time.perf_counter(); continue
    steps += 1
    if time.perf_counter() - start > seconds or decode and steps >= 250: break
took = time.perf_counter() - start
print(json.dumps({"tokens_per_s": steps * per_step / took, "losses": losses, "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6}))
'''


def main():
    quick = os.environ.get("LPIPE_BENCH") == "quick"
    threads, seconds = os.cpu_count(), 3 if quick else 8
    python = peer_python()
    words = os.environ.get("ROWS", "").split()
    print("| LoRA r 16, all linear, %d threads | lpipe tokens/s, MB | torch + PEFT tokens/s, MB | × tokens/s | × memory | first loss: lpipe, torch | largest product ÷ multiply-adds, weights read ÷ reading |\n|---|---|---|---|---|---|---|" % threads)
    results, models = [], {}
    with tempfile.TemporaryDirectory() as root:
        for name, config, dtype, batch, length, precision, decode in ROWS:
            if words and not any(word in name for word in words):
                continue
            dir = models.get(str(config))
            if dir is None:
                dir = models[str(config)] = Path(root) / str(len(models))
                make_model(python, dir, config, dtype)
            ids = Path(root) / "ids.json"
            ids.write_text(json.dumps([(i * 7919 + i * i * 31) % config["vocab_size"] for i in range(batch * length)]))
            ours = [LPIPE, "engine", "bench", "--model", dir, "--batch", batch, "--length", length, "--rank", 16, "--threads", threads, "--seconds", seconds, "--ids", ids, "--precision", precision[:4], "--json"] + ["--decode"] * decode
            theirs = [python, "-c", PEER, dir, ids, batch, length, threads, seconds, precision, decode]
            env = dict(os.environ, ONEDNN_MAX_CPU_ISA="AVX512_CORE_VNNI") if precision == "bf16-plain" else None
            runs = [(run(ours), run(theirs, env)) for _ in range(2 if quick or config is LARGE else ROUNDS)]
            own, peer = fastest(o for o, _ in runs), fastest(p for _, p in runs)
            share = own["gemm_gflops"] / own["peak_gflops"] if own.get("peak_gflops") else 0
            print("| " + " | ".join([
                name, f"{own['tokens_per_s']:,.0f} · {own['peak_rss_mb']:.0f}", f"{peer['tokens_per_s']:,.1f} · {peer['peak_rss_mb']:.0f}",
                f"{own['tokens_per_s'] / peer['tokens_per_s']:.2f}", f"{own['peak_rss_mb'] / peer['peak_rss_mb']:.2f}",
                "" if decode else f"{own['losses'][0]:.5f}, {peer['losses'][0]:.5f}", f"{own.get('read_share', 0):.2f} read" if decode else f"{share:.2f}"]) + " |", flush=True)
            results.append({"shape": name, "lpipe": own, "peer": peer, "all": runs})
    (ROOT / "build" / "bench-engine.json").write_text(json.dumps(results, indent=1))


def fastest(runs):
    return max(runs, key=lambda r: r["tokens_per_s"])


def run(command, env=None):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, env=env)
    if done.returncode:
        sys.exit(f"{command[:3]}: exit {done.returncode}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1]) if not done.stdout.strip().startswith("{\n") else json.loads(done.stdout)


def peer_python():
    if os.environ.get("LPIPE_BENCH_PYTHON"):
        return os.environ["LPIPE_BENCH_PYTHON"]
    venv = ROOT / "build" / "parity-venv"
    if not venv.exists():
        if os.environ.get("LPIPE_BENCH") == "quick":
            sys.exit("quick: no Python with torch; set LPIPE_BENCH_PYTHON, or run without LPIPE_BENCH=quick once")
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin" / "pip", "install", "-q", "-r", PINS], check=True)
    return str(venv / "bin" / "python")


def make_model(python, dir, config, dtype):
    code = "import sys, json, torch; from transformers import Qwen2Config, Qwen2ForCausalLM; torch.manual_seed(1); Qwen2ForCausalLM(Qwen2Config(max_position_embeddings=2048, **json.loads(sys.argv[2]))).to(getattr(torch, sys.argv[3])).save_pretrained(sys.argv[1])"
    subprocess.run([python, "-c", code, dir, json.dumps(config), dtype], check=True, capture_output=True)


if __name__ == "__main__":
    main()
