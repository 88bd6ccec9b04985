#!/usr/bin/env python3
"""LoRA training steps and greedy decoding of lpipe beside torch + PEFT: same model folder, same token ids, same threads.

  ROWS="small 0.5b"   the rows whose name contains one of the words
  LPIPE_BENCH=full    also the rows that no goal needs and that take long
  LPIPE_BENCH=quick   3 seconds a turn and two turns, with a Python that is there already

Needs a Python with torch, transformers and peft for the peer: LPIPE_BENCH_PYTHON, or build/parity-venv, which is
made from PyPI (about 3 GB). Prints Markdown, and what it does on standard error; all figures go into build/bench-engine.json. A row
whose program fails, hangs, or whose losses differ is printed as failed, the others go on, and the exit code is 1.
"""
import json, os, subprocess, sys, tempfile, threading, time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LPIPE = ROOT / "bin" / "lpipe"
PINS = ROOT / "tools" / "parity" / "requirements.txt"
def shape(hidden, layers, heads, ffn, vocab):
    return dict(hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=2, intermediate_size=ffn, vocab_size=vocab, tie_word_embeddings=True)


DEMO, SMALL, MIDDLE, LARGE = shape(128, 4, 4, 352, 512), shape(256, 4, 4, 688, 2048), shape(512, 8, 8, 1376, 8192), shape(896, 24, 14, 4864, 151936)
# name, config, type of the weight file, rows, tokens a row, precision, decode. The last shape is Qwen2.5-0.5B's, whose weights are bfloat16.
ROWS = [
    ("small: hidden 256, 4 layers, vocab 2048, 8 × 128", SMALL, "float32", 8, 128, "fp32", False),
    ("middle: hidden 512, 8 layers, vocab 8192, 4 × 256", MIDDLE, "float32", 4, 256, "fp32", False),
    ("0.5b: Qwen2.5-0.5B's shape, 1 × 256, fp32", LARGE, "bfloat16", 1, 256, "fp32", False),
    ("0.5b: the same, bf16", LARGE, "bfloat16", 1, 256, "bf16", False),
    ("middle, greedy decoding, batch 1", MIDDLE, "float32", 1, 32, "fp32", True),
    ("0.5b, greedy decoding, batch 1, fp32", LARGE, "bfloat16", 1, 32, "fp32", True),
    ("0.5b, greedy decoding, batch 1, bf16", LARGE, "bfloat16", 1, 32, "bf16", True),
    ("demo: hidden 128, 4 layers, vocab 512, 64 × 64", DEMO, "float32", 64, 64, "fp32", False),
]
# With LPIPE_BENCH=full. The peer takes eleven seconds for a step.
MORE = [
    ("0.5b: bf16, torch without bf16 instructions", LARGE, "bfloat16", 1, 256, "bf16-plain", False),
]
ROUNDS, SECONDS = 3, 6  # the two take turns, and of each the fastest counts: what else the machine does only slows them down
LIMIT = 150  # seconds that one turn, or loading the peer's model, may take
LOSSES = {"fp32": 1e-4, "bf16": 1e-3, "bf16-plain": 1e-3}  # how far the first losses may differ, relative: torch rounds activations in bf16
# The peer loads its model once, makes a step that is not timed, and then a turn for each line that it reads.
PEER = r'''
import json, sys, time, resource, torch
from transformers import AutoModelForCausalLM
from peft import LoraConfig, get_peft_model
model_dir, ids_file, batch, length, threads, seconds, precision, decode = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]), float(sys.argv[6]), sys.argv[7], sys.argv[8] == "True"
torch.set_num_threads(threads)
torch.manual_seed(1)
model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32 if precision == "fp32" else torch.bfloat16)
ids = torch.tensor(json.load(open(ids_file))).reshape(batch, length)
if decode:
    per_step = batch
    model.eval()
    torch.set_grad_enabled(False)
    def begin():
        global out
        out = model(input_ids=ids, use_cache=True)
    def step():
        global out
        out = model(input_ids=out.logits[:, -1:].argmax(-1), past_key_values=out.past_key_values, use_cache=True)
        return 0.0
else:
    per_step = batch * length
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, weight_decay=0)
    def begin():
        pass
    def step():
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward(); opt.step(); opt.zero_grad()
        return loss.item()
begin()
first = step()
print(json.dumps({"loss": first}), flush=True)
for _ in sys.stdin:
    begin()
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds and not (decode and steps >= 250):
        step()
        steps += 1
    took = time.perf_counter() - start
    print(json.dumps({"tokens_per_s": steps * per_step / took, "losses": [first], "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6}), flush=True)
'''
MAKE = r'''
import json, sys, torch
from transformers import Qwen2Config, Qwen2ForCausalLM
for folder, config, dtype in json.loads(sys.argv[1]):
    torch.manual_seed(1)
    Qwen2ForCausalLM(Qwen2Config(max_position_embeddings=2048, **config)).to(getattr(torch, dtype)).save_pretrained(folder)
'''


class Failed(Exception):
    """A program of a row failed, or the two do not agree."""


class Child:
    """A program that is killed when what is read from it takes longer than LIMIT."""

    def __init__(self, command, env=None):
        self.name, self.late = Path(str(command[0])).name, False
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, env=env)

    def read(self):
        """The next line, as JSON."""
        timer = threading.Timer(LIMIT, self.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if self.late:
            raise Failed(f"{self.name}: nothing for {LIMIT} s")
        if not line.strip():
            code = self.process.wait()
            self.errors.seek(0)
            last = self.errors.read().decode(errors="replace").strip().splitlines()[-1:] or ["and said nothing"]
            raise Failed(f"{self.name}: {'signal %d' % -code if code < 0 else 'exit %d' % code}: {last[0]}")
        return json.loads(line)

    def turn(self):
        try:
            self.process.stdin.write(b"\n")
            self.process.stdin.flush()
        except OSError:
            pass  # it ended: read says why
        return self.read()

    def kill(self):
        self.late = True
        self.process.kill()

    def close(self):
        self.process.kill()
        self.process.communicate()
        self.errors.close()


def main():
    mode = os.environ.get("LPIPE_BENCH", "")
    quick = mode == "quick"
    seconds, rounds = (3, 2) if quick else (SECONDS, ROUNDS)
    words = os.environ.get("ROWS", "").split()
    rows = [row for row in ROWS + MORE * (mode == "full" or bool(words)) if not words or any(word in row[0] for word in words)]
    if not rows:
        sys.exit(f"ROWS: no row's name contains any of {words}")
    python, began, results, failed = peer_python(quick), time.monotonic(), [], []
    with tempfile.TemporaryDirectory() as root:
        say(f"{len(rows)} rows; making the models")
        models = make_models(python, Path(root), rows)
        print("| LoRA r 16, all linear, %d threads | lpipe tokens/s, MB | torch + PEFT tokens/s, MB | × tokens/s | × memory | first loss: lpipe, torch | largest product ÷ bare loop of the same numbers, or weights read ÷ reading |\n|---|---|---|---|---|---|---|" % os.cpu_count(), flush=True)
        for i, row in enumerate(rows):
            say(f"{i + 1} of {len(rows)}, {time.monotonic() - began:.0f} s: {row[0]}")
            try:
                figures = compare(python, models[str(row[1])], Path(root) / "ids.json", row, seconds, rounds)
                results.append(figures)
                print(line(row, figures), flush=True)
            except Failed as error:
                failed.append(row[0])
                print(f"| {row[0]} | failed: {error} | | | | | |", flush=True)
    (ROOT / "build" / "bench-engine.json").write_text(json.dumps(results, indent=1))
    say(f"{time.monotonic() - began:.0f} s" + f"; failed: {'; '.join(failed)}" * bool(failed))
    sys.exit(1 if failed else 0)


def say(text):
    print(text, file=sys.stderr, flush=True)


def compare(python, model, ids, row, seconds, rounds):
    """The figures of a row: both in turns, the fastest turn of each."""
    name, config, _, batch, length, precision, decode = row
    ids.write_text(json.dumps([(i * 7919 + i * i * 31) % config["vocab_size"] for i in range(batch * length)]))
    threads = os.cpu_count()
    ours = [LPIPE, "engine", "bench", "--model", model, "--batch", batch, "--length", length, "--rank", 16, "--threads", threads, "--seconds", seconds, "--ids", ids, "--precision", precision[:4], "--json"] + ["--decode"] * decode
    env = dict(os.environ, ONEDNN_MAX_CPU_ISA="AVX512_CORE_VNNI") if precision == "bf16-plain" else None
    peer = Child([python, "-c", PEER, model, ids, batch, length, threads, seconds, precision, decode], env)
    try:
        peer.read()
        turns = []
        for _ in range(rounds):
            own = Child(ours)
            try:
                mine = own.read()
            finally:
                own.close()  # before the peer's turn: two threads that wait for each other feel a third
            turns.append((mine, peer.turn()))
            say("  lpipe {tokens_per_s:,.1f} tokens/s".format(**turns[-1][0]) + ", torch {tokens_per_s:,.1f}".format(**turns[-1][1]))
    finally:
        peer.close()
    own, theirs = (max(of, key=lambda r: r["tokens_per_s"]) for of in zip(*turns))
    if not decode and abs(own["losses"][0] / theirs["losses"][0] - 1) > LOSSES[precision]:
        raise Failed(f"the first losses differ: lpipe's is {own['losses'][0]:.6f}, torch's {theirs['losses'][0]:.6f}")
    return {"shape": name, "lpipe": own, "peer": theirs, "all": turns}


def line(row, figures):
    own, peer, decode = figures["lpipe"], figures["peer"], row[6]
    return "| " + " | ".join([
        row[0], f"{own['tokens_per_s']:,.0f} · {own['peak_rss_mb']:.0f}", f"{peer['tokens_per_s']:,.1f} · {peer['peak_rss_mb']:.0f}",
        f"{own['tokens_per_s'] / peer['tokens_per_s']:.2f}", f"{own['peak_rss_mb'] / peer['peak_rss_mb']:.2f}",
        "" if decode else f"{own['losses'][0]:.5f}, {peer['losses'][0]:.5f}",
        f"{own.get('read_share', 0):.2f} read" if decode else f"{own.get('gemm_share', 0):.2f} of {'bf16' if own.get('peak_bf16_gflops') and row[5] != 'fp32' else 'float32'}"]) + " |"


def peer_python(quick):
    if os.environ.get("LPIPE_BENCH_PYTHON"):
        return os.environ["LPIPE_BENCH_PYTHON"]
    venv = ROOT / "build" / "parity-venv"
    if not venv.exists():
        if quick:
            sys.exit("quick: no Python with torch; set LPIPE_BENCH_PYTHON, or run without LPIPE_BENCH=quick once")
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin" / "pip", "install", "-q", "-r", PINS], check=True)
    return str(venv / "bin" / "python")


def make_models(python, root, rows):
    """The folders of the rows' models, by config: random weights, from one seed."""
    models, wanted = {}, []
    for _, config, dtype, *_ in rows:
        if str(config) not in models:
            models[str(config)] = root / str(len(models))
            wanted.append([str(models[str(config)]), config, dtype])
    made = subprocess.run([python, "-c", MAKE, json.dumps(wanted)], capture_output=True, text=True)
    if made.returncode:
        sys.exit(f"the models: {python}: exit {made.returncode}\n{made.stderr[-3000:]}")
    return models


if __name__ == "__main__":
    main()
