#!/usr/bin/env python3
"""A LoRA training step of lpipe beside torch + PEFT: same model folder, same token ids, same threads, float32.

Needs a Python with torch, transformers and peft for the peer: LPIPE_BENCH_PYTHON, or build/parity-venv, which is
made from PyPI (about 3 GB) unless LPIPE_BENCH=quick. Prints a Markdown table with both losses, which must agree.
"""
import json, os, subprocess, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LPIPE = ROOT / "bin" / "lpipe"
PINS = ROOT / "tools" / "parity" / "requirements.txt"
SHAPES = [  # name, config, batch, length
    ("demo: hidden 128, 4 layers, vocab 512, 64 × 64", dict(hidden_size=128, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, intermediate_size=352, vocab_size=512, tie_word_embeddings=True), 64, 64),
    ("hidden 256, 4 layers, vocab 2048, 8 × 128", dict(hidden_size=256, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, intermediate_size=688, vocab_size=2048, tie_word_embeddings=True), 8, 128),
    ("hidden 512, 8 layers, vocab 8192, 4 × 256", dict(hidden_size=512, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=2, intermediate_size=1376, vocab_size=8192, tie_word_embeddings=True), 4, 256),
]
ROUNDS = 3  # the two take turns, and of each the fastest counts: what else the machine does only slows them down
PEER = r'''
import json, sys, time, resource, torch
from transformers import AutoModelForCausalLM
from peft import LoraConfig, get_peft_model
model_dir, ids_file, batch, length, threads, seconds = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]), float(sys.argv[6])
torch.set_num_threads(threads)
torch.manual_seed(1)
model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
ids = torch.tensor(json.load(open(ids_file))).reshape(batch, length)
opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, weight_decay=0)
losses, start, steps = [], None, 0
while True:
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward(); opt.step(); opt.zero_grad()
    losses.append(loss.item())
    if start is None: start = time.perf_counter(); continue
    steps += 1
    if time.perf_counter() - start > seconds: break
took = time.perf_counter() - start
print(json.dumps({"tokens_per_s": steps * batch * length / took, "losses": losses, "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
'''


def main():
    threads, seconds = os.cpu_count(), 3 if os.environ.get("LPIPE_BENCH") == "quick" else 8
    python = peer_python()
    print("| LoRA r 16, all linear, fp32, %d threads | lpipe tokens/s, MB | torch + PEFT tokens/s, MB | × tokens/s | × memory | first loss: lpipe, torch |\n|---|---|---|---|---|---|" % threads)
    results = []
    for name, config, batch, length in SHAPES:
        with tempfile.TemporaryDirectory() as dir:
            make_model(python, Path(dir), config)
            ids = [(i * 7919 + i * i * 31) % config["vocab_size"] for i in range(batch * length)]
            (Path(dir) / "ids.json").write_text(json.dumps(ids))
            ours = [LPIPE, "engine", "bench", "--model", dir, "--batch", batch, "--length", length, "--rank", 16, "--threads", threads, "--seconds", seconds, "--ids", Path(dir) / "ids.json", "--json"]
            theirs = [python, "-c", PEER, dir, Path(dir) / "ids.json", batch, length, threads, seconds]
            runs = [(run(ours), run(theirs) if python else None) for _ in range(ROUNDS)]
            own = fastest(o for o, _ in runs)
            row = [name, f"{own['tokens_per_s']:,.0f} · {own['peak_rss_mb']:.0f}"]
            if python:
                peer = fastest(p for _, p in runs)
                row += [f"{peer['tokens_per_s']:,.0f} · {peer['peak_rss_mb']:.0f}", f"{own['tokens_per_s'] / peer['tokens_per_s']:.2f}", f"{own['peak_rss_mb'] / peer['peak_rss_mb']:.2f}", f"{own['losses'][0]:.5f}, {peer['losses'][0]:.5f}"]
            print("| " + " | ".join(row) + " |", flush=True)
            results.append({"shape": name, "lpipe": own, "peer": peer if python else None})
    (ROOT / "build" / "bench-engine.json").write_text(json.dumps(results, indent=1))


def fastest(runs):
    return max(runs, key=lambda r: r["tokens_per_s"])


def run(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
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


def make_model(python, dir, config):
    code = "import sys, json, torch; from transformers import Qwen2Config, Qwen2ForCausalLM; torch.manual_seed(1); Qwen2ForCausalLM(Qwen2Config(max_position_embeddings=2048, **json.loads(sys.argv[2]))).float().save_pretrained(sys.argv[1])"
    subprocess.run([python, "-c", code, dir, json.dumps(config)], check=True, capture_output=True)


if __name__ == "__main__":
    main()
