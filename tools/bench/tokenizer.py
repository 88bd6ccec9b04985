#!/usr/bin/env python3
"""lpipe's tokenizer beside Hugging Face tokenizers and tiktoken: same files, one thread, equal counts checked.

Reads Qwen2.5's tokenizer and real rows from the folder `shared` beside the checkout (or LPIPE_SHARED), which is not
committed. Peers are installed, pinned, from PyPI into build/bench-venv. Prints MB per CPU second, cold and warm.
"""
import json, os, subprocess, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("LPIPE_SHARED", ROOT.parent / "shared"))
LPIPE = ROOT / "bin" / "lpipe"
PINS = ["tokenizers==0.23.3", "tiktoken==0.14.0"]
PEER = r'''
import json, sys, time
name, folder, file = sys.argv[1:]
text = open(file, encoding="utf-8", newline="").read()
pattern = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
if name == "tiktoken":
    import base64, tiktoken
    ranks = {base64.b64decode(t): int(r) for t, r in (l.split() for l in open(folder + "/qwen.tiktoken", "rb") if l.strip())}
    enc = tiktoken.Encoding("qwen", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    encode = lambda: len(enc.encode_ordinary(text))
else:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, Regex
    t = Tokenizer(models.BPE.from_file(folder + "/vocab.json", folder + "/merges.txt"))
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    lines = text.splitlines(keepends=True)
    encode = lambda: len(t.encode(text).ids)
out = []
for _ in range(2):
    start = time.process_time(); n = encode(); out.append(time.process_time() - start)
print(json.dumps({"tokens": n, "cpu_seconds": out[0], "warm_cpu_seconds": out[1], "bytes": len(text.encode())}))
'''


def main():
    if not (SHARED / "data" / "qwen2.5").is_dir():
        sys.exit(f"{SHARED}: no data/qwen2.5 there; set LPIPE_SHARED")
    python, quick = peers(), os.environ.get("LPIPE_BENCH") == "quick"
    tokens = SHARED / "data" / "qwen2.5"
    print("| text | MB | lpipe cold / warm, MB per CPU second | HF tokenizers | tiktoken | lpipe warm × best peer | load, s |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as dir:
        for name, file in corpora(Path(dir), 4 if quick else 20):
            own = json.loads(run([LPIPE, "tokenize", "--tokenizer", tokens, "--input", file, "--output", Path(dir) / "ids", "--passes", 2, "--stats-json"]))
            cell, best = [], 0
            for peer in ("tokenizers", "tiktoken"):
                got = json.loads(run([python, "-c", PEER, peer, tokens, file]))
                if got["tokens"] != own["tokens"]:
                    print(f"{name}: {peer} counts {got['tokens']} tokens, lpipe {own['tokens']}", file=sys.stderr)
                cold, warm = (got["bytes"] / 1e6 / got[k] for k in ("cpu_seconds", "warm_cpu_seconds"))
                best = max(best, warm)
                cell.append(f"{cold:.1f} / {warm:.1f}")
            mb = own["bytes"] / 1e6
            warm = mb / own["warm_cpu_seconds"]
            print(f"| {name} | {mb:.0f} | {mb / own['cpu_seconds']:.0f} / {warm:.0f} | {cell[0]} | {cell[1]} | {warm / best:.1f} | {own['load_seconds']:.3f} |", flush=True)


def corpora(dir, mb):
    rows = [json.loads(l) for l in open(SHARED / "data" / "gsm8k" / "train.jsonl", encoding="utf-8")]
    reasoning = "\n\n".join(r["question"] + "\n" + r["answer"] for r in rows)
    code = "\n".join(p.read_text(encoding="utf-8") for p in sorted(Path(os.__file__).parent.glob("*.py")))
    for name, text in (("reasoning", reasoning), ("Python source", code)):
        file = dir / (name.replace(" ", "-") + ".txt")
        while len(text) < mb * 500_000:
            text += text
        file.write_bytes(text[: mb * 1_000_000].encode())
        yield name, file


def run(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command[:3]}: exit {done.returncode}\n{done.stderr[-3000:]}")
    return done.stdout.strip().splitlines()[-1]


def peers():
    venv = ROOT / "build" / "bench-venv"
    if not venv.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    subprocess.run([venv / "bin" / "pip", "install", "-q", *PINS], check=True)
    return str(venv / "bin" / "python")


if __name__ == "__main__":
    main()
