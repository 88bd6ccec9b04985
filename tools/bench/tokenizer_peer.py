"""One peer, one text, one process: encodes the parts twice and prints what it took as JSON (see tokenizer.py).

    tokenizer_peer.py NAME FOLDER PARTS THREADS
"""
import base64, json, os, sys, time

name, folder, parts, threads = sys.argv[1], sys.argv[2], json.load(open(sys.argv[3], encoding="utf-8")), int(sys.argv[4])
os.environ["RAYON_NUM_THREADS"] = str(threads)
os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"
PATTERN = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
if name == "gigatoken":
    import gigatoken
elif name == "fastokens":
    import fastokens
elif name == "tiktoken":
    import tiktoken
else:
    from tokenizers import Tokenizer

start = time.time()
if name == "gigatoken":
    t = gigatoken.Tokenizer(folder + "/tokenizer.json")
    encode = lambda: sum(len(x) for x in t.encode_batch(parts, parallel=threads > 1))
elif name == "fastokens":
    t = fastokens._native.Tokenizer.from_file(folder + "/tokenizer.json")
    encode = lambda: sum(len(x) for x in t.encode_batch(parts)) if threads > 1 else sum(len(t.encode_ordinary(p)) for p in parts)
elif name == "tiktoken":
    ranks = {base64.b64decode(t): int(r) for t, r in (l.split() for l in open(folder + "/qwen.tiktoken", "rb") if l.strip())}
    t = tiktoken.Encoding("qwen", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    encode = lambda: sum(len(x) for x in t.encode_ordinary_batch(parts, num_threads=threads)) if threads > 1 else sum(len(t.encode_ordinary(p)) for p in parts)
else:
    t = Tokenizer.from_file(folder + "/tokenizer.json")
    ids = lambda e: e.ids if hasattr(e, "ids") else e
    encode = lambda: sum(len(ids(x)) for x in t.encode_batch(parts)) if threads > 1 else sum(len(ids(t.encode(p))) for p in parts)
out = {"load": time.time() - start, "cpu": [], "wall": []}
for _ in range(2):
    cpu, wall = time.process_time(), time.time()
    out["tokens"] = encode()
    out["cpu"].append(time.process_time() - cpu)
    out["wall"].append(time.time() - wall)
# Not ru_maxrss, which begins with the parent's.
out["mb"] = next(int(l.split()[1]) // 1024 for l in open("/proc/self/status") if l.startswith("VmHWM"))
print(json.dumps(out))
