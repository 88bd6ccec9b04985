#!/usr/bin/env python3
"""lpipe's tokenizer beside seven others on the same texts: MB per CPU second, cold (first pass of a new process) and warm.

Peers, pinned, each in an environment of its own under build/bench-tokenizer: Hugging Face tokenizers 0.23 and 1.0's release
candidate, tiktoken, gigatoken, fastokens (PyPI), and tiktoken-go (Go). The texts are tokenizer_corpora.py's. Every peer gets the
text in parts of about a megabyte, ready in memory, by its fastest call; token counts must be equal. The slow ones get the first
megabytes only. Qwen2.5's tokenizer comes from the folder `shared` beside the checkout (or LPIPE_SHARED).

lpipe and the peers that get the whole text take turns, three times, and the least CPU time counts: other work on the machine
makes all of them slower, not faster.

LPIPE_BENCH=quick takes a tenth of the texts, one thread and one turn; LPIPE_BENCH_PEERS="gigatoken fastokens" only these peers.
"""
import json, os, re, subprocess, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("LPIPE_SHARED", ROOT.parent / "shared"))
HOME = ROOT / "build" / "bench-tokenizer"
QUICK = os.environ.get("LPIPE_BENCH") == "quick"
TURNS = 1 if QUICK else 3
# name: (packages, MB of text that it gets)
PEERS = {"gigatoken": (["gigatoken==0.10.0"], 1000), "fastokens": (["fastokens==0.3.5"], 1000), "tiktoken": (["tiktoken==0.14.0"], 6),
         "tokenizers-0.23": (["tokenizers==0.23.3"], 3), "tokenizers-1.0rc": (["tokenizers==1.0.0rc3"], 6), "tiktoken-go": (None, 2)}
TEXTS = ("reasoning", "python", "scripts")
MAKE_TOKENIZER = r'''
import sys
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, decoders, Regex
pattern = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
t = Tokenizer(models.BPE.from_file(sys.argv[1] + "/vocab.json", sys.argv[1] + "/merges.txt"))
t.normalizer = normalizers.NFC()
t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
t.decoder = decoders.ByteLevel()
t.save(sys.argv[2])
'''


def python(name, packages):
    """The Python of an environment with these packages."""
    venv = HOME / name
    if not (venv / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin" / "pip", "install", "-q", *packages], check=True)
        (venv / "ready").touch()
    return venv / "bin" / "python"


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command[:3]))}: exit {done.returncode}\n{done.stderr[-3000:]}")
    return done.stdout.strip().splitlines()[-1]


def parts_of(text):
    """Parts of about a megabyte, cut where no pretoken goes on."""
    cut, parts, i = re.compile(r"\n(?=[A-Za-z0-9])"), [], 0
    while i < len(text):
        m = cut.search(text, i + 1_000_000)
        j = m.end() if m else len(text)
        parts.append(text[i:j])
        i = j
    return parts


def shorten(file, megabytes):
    """The first megabytes of a text as a file of their own, and their parts."""
    text = file.read_bytes().decode()
    parts = parts_of(text)
    while len(parts) > 1 and sum(len(p.encode()) for p in parts) > megabytes * 1e6:
        parts.pop()
    part = HOME / f"{file.stem}-{min(megabytes, 1000)}.txt"
    part.write_bytes("".join(parts).encode())
    (part.with_suffix(".json")).write_text(json.dumps(parts), encoding="utf-8")
    return part


def lpipe(file, threads):
    command = [ROOT / "bin" / "lpipe", "tokenize", "--tokenizer", HOME / "tokenizer", "--input", file, "--output", HOME / "ids", "--passes", 2, "--threads", threads, "--stats-json"]
    d = json.loads(run("/usr/bin/env", "python3", "-c", MEASURE, *command))
    return {"tokens": d["tokens"], "cpu": [d["cpu_seconds"], d["warm_cpu_seconds"]], "wall": [d["seconds"], d["warm_seconds"]], "load": d["load_seconds"], "mb": d["mb"], "bytes": d["bytes"]}


MEASURE = r'''
import json, resource, subprocess, sys
out = json.loads(subprocess.run(sys.argv[1:], check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1])
print(json.dumps(out | {"mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024}))
'''


def setup():
    """Texts, tokenizer, environments; returns how each peer is called."""
    if not (SHARED / "data" / "qwen2.5").is_dir():
        sys.exit(f"{SHARED}: no data/qwen2.5 there; set LPIPE_SHARED")
    HOME.mkdir(parents=True, exist_ok=True)
    texts = HOME / ("texts-quick" if QUICK else "texts")
    run(python("corpora", ["wordfreq==3.1.1", "setuptools==80.9.0"]), ROOT / "tools" / "bench" / "tokenizer_corpora.py", texts, 0.1 if QUICK else 1)
    folder = HOME / "tokenizer"
    folder.mkdir(exist_ok=True)
    for name in ("vocab.json", "merges.txt", "qwen.tiktoken"):
        if not (folder / name).exists():
            (folder / name).write_bytes((SHARED / "data" / "qwen2.5" / name).read_bytes())
    if not (folder / "tokenizer.json").exists():
        subprocess.run([python("tokenizers-0.23", PEERS["tokenizers-0.23"][0]), "-c", MAKE_TOKENIZER, folder, folder / "tokenizer.json"], check=True)
    wanted, calls = os.environ.get("LPIPE_BENCH_PEERS", " ".join(PEERS)).split(), {}
    for name in wanted:
        if name == "tiktoken-go":
            build_gopeer()
            calls[name] = lambda parts, threads: run(HOME / "gopeer", folder / "qwen.tiktoken", parts) if threads == 1 else None
        else:
            own = python(name, PEERS[name][0])
            calls[name] = lambda parts, threads, own=own, name=name: run(own, ROOT / "tools" / "bench" / "tokenizer_peer.py", name.split("-")[0], folder, parts, threads)
    return texts, calls


def build_gopeer():
    """Builds the Go peer. Its source is no .go file in the tree, so that tools that go by these leave another module alone."""
    source, build = ROOT / "tools" / "bench" / "gopeer", HOME / "gopeer-source"
    build.mkdir(exist_ok=True)
    for name, to in (("main.go.txt", "main.go"), ("go.mod", "go.mod"), ("go.sum", "go.sum")):
        (build / to).write_bytes((source / name).read_bytes())
    subprocess.run(["go", "build", "-o", HOME / "gopeer", "."], cwd=build, check=True)


def least(before, now):
    """The better of two runs, each time for itself."""
    if before is None:
        return now
    return now | {key: [min(pair) for pair in zip(before[key], now[key])] for key in ("cpu", "wall")} | {
        "load": min(before["load"], now["load"]), "mb": max(before["mb"], now["mb"])}


def measure(text, calls, threads):
    """What lpipe and each peer take for a text: {name: (result, bytes, lpipe's result for the same bytes)}."""
    got, files = {}, {peer: shorten(text, PEERS[peer][1]) for peer in calls}
    own = {}  # lpipe's, by size
    for turn in range(TURNS):
        for file in {text, *files.values()} if turn == 0 else {text}:
            own[file.stat().st_size] = least(own.get(file.stat().st_size), lpipe(file, threads))
        for peer, call in calls.items():
            if turn == 0 or files[peer].stat().st_size == text.stat().st_size:
                answer = call(files[peer].with_suffix(".json"), threads)
                if answer is not None:
                    got[peer] = least(got.get(peer), json.loads(answer))
    sizes = {peer: files[peer].stat().st_size for peer in got}
    whole = own[text.stat().st_size]
    return {"lpipe": (whole, whole["bytes"], None)} | {peer: (d, sizes[peer], own[sizes[peer]]) for peer, d in got.items()}


def main():
    texts, calls = setup()
    wrong = 0
    print("peers: " + ", ".join(PEERS[peer][0][0] if PEERS[peer][0] else "github.com/pkoukk/tiktoken-go " + gopeer_version() for peer in calls))
    for threads in (1,) if QUICK else (1, 2):
        print(f"\n{threads} thread{'s' if threads > 1 else ''}: MB per CPU second cold / warm, MB per second cold / warm, load s, peak MB; × is lpipe's MB per CPU second by the peer's")
        for name in TEXTS:
            results = measure(texts / f"{name}.txt", calls, threads)
            whole, best = results["lpipe"][0], [0.0, 0.0]
            for peer, (d, size, own) in results.items():
                show(name, peer, d, size, own and whole)
                if own is None:
                    continue
                if d["tokens"] != own["tokens"]:
                    wrong += 1
                    print(f"{name}: {peer} counts {d['tokens']} tokens, lpipe {own['tokens']}", file=sys.stderr)
                best = [max(b, size / 1e6 / c) for b, c in zip(best, d["cpu"])]
            ratio = [whole["bytes"] / 1e6 / c / b for c, b in zip(whole["cpu"], best)] if best[0] else [0, 0]
            print(f"{name:10} lpipe × the best peer: cold {ratio[0]:.2f}, warm {ratio[1]:.2f}", flush=True)
    print("\nall count the same tokens" if not wrong else f"\n{wrong} counts differ")
    sys.exit(wrong > 0)


def gopeer_version():
    return re.search(r"tiktoken-go (v\S+)", (ROOT / "tools" / "bench" / "gopeer" / "go.mod").read_text())[1]


def show(text, name, d, size, own):
    rate = lambda seconds: size / 1e6 / seconds
    times = "" if own is None else "   × %.1f / %.1f" % tuple(own["bytes"] / 1e6 / o / rate(c) for o, c in zip(own["cpu"], d["cpu"]))
    print(f"{text:10} {name:17} {size / 1e6:3.0f} MB  {rate(d['cpu'][0]):6.1f} / {rate(d['cpu'][1]):6.1f}   {rate(d['wall'][0]):6.1f} / {rate(d['wall'][1]):6.1f}   {d['load']:.2f} s  {d['mb']} MB{times}", flush=True)


if __name__ == "__main__":
    main()
