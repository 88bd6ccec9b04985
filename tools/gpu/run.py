#!/usr/bin/env python3
"""run.py REPORT: the parts of run.sh, each with its own time limit. The report is written anew after each part, so that
none can lose what others found."""
import glob
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BUDGET = 470.0  # seconds for everything: 8 minutes, less the start
START = time.monotonic()
WORK = os.environ.get("GPU_BUNDLE_WORK") or os.path.join(HERE, "work")
LPIPE = os.path.join(WORK, "lpipe-cuda")


def left():
    return BUDGET - (time.monotonic() - START)


def unpack(packed, program):
    with gzip.open(packed) as src, open(program + ".new", "wb") as dst:
        shutil.copyfileobj(src, dst)
    os.chmod(program + ".new", 0o755)
    os.replace(program + ".new", program)


class Report:
    def __init__(self, path):
        self.path = path
        self.data = {"schema": 1, "commit": read("commit").strip(), "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "parts": {}}

    def add(self, name, part):
        self.data["parts"][name] = part
        self.data["seconds"] = round(time.monotonic() - START, 1)
        with open(self.path + ".new", "w") as f:
            json.dump(self.data, f, indent=1)
            f.write("\n")
        os.replace(self.path + ".new", self.path)
        note = part.get("why") or part.get("note") or ""
        print(f"{part['status']:8} {name:18} {part.get('seconds', 0):6.1f} s  {note}", flush=True)


def read(name):
    with open(os.path.join(HERE, name)) as f:
        return f.read()


def run(command, limit, cwd=HERE, env=None):
    """Runs a command in its own process group; (exit status or None, output, seconds)."""
    began = time.monotonic()
    p = subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                         stdin=subprocess.DEVNULL)
    try:
        out, _ = p.communicate(timeout=limit)
        status = p.returncode
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, signal.SIGKILL)
        out, _ = p.communicate()
        status = None
    return status, out.decode(errors="replace"), time.monotonic() - began


def libraries():
    """The folders that hold cuBLASLt and what else torch brought along."""
    found = []
    for root in sys.path + ["/usr/local/cuda/lib64", "/usr/local/cuda/targets/x86_64-linux/lib"]:
        for pattern in ("nvidia/cu13/lib", "nvidia/cublas/lib", "torch/lib", "."):
            folder = os.path.join(root, pattern)
            if glob.glob(os.path.join(folder, "libcublasLt.so.1[23]")):
                found.append(os.path.normpath(folder))
    return list(dict.fromkeys(found))


def environment():
    env = dict(os.environ)
    env["LD_LIBRARY_PATH"] = ":".join(libraries() + [p for p in [env.get("LD_LIBRARY_PATH")] if p])
    return env


def part(report, name, limit, work, needs=None):
    """Runs one part. needs says why it cannot run, or is None."""
    if needs:
        report.add(name, {"status": "skipped", "why": needs})
        return None
    limit = min(limit, left() - 5)
    if limit < 5:
        report.add(name, {"status": "skipped", "why": "no time left"})
        return None
    began = time.monotonic()
    try:
        result = work(limit)
    except Exception as err:  # one part's fault is its own
        result = {"status": "failed", "why": f"{type(err).__name__}: {err}"}
    result["seconds"] = round(time.monotonic() - began, 1)
    report.add(name, result)
    return result


def last(text, n=30):
    return text.strip().splitlines()[-n:]


def tests(binary, cwd, pattern, skip=None):
    def work(limit):
        command = [os.path.join(HERE, cwd, binary), "-test.v", "-test.run", pattern]
        if skip:
            command += ["-test.skip", skip]
        status, out, _ = run(command, limit, os.path.join(HERE, cwd), environment())
        count = {k: len(re.findall(rf"^\s*--- {k}:", out, re.M)) for k in ("PASS", "FAIL", "SKIP")}
        result = {"passed": count["PASS"], "failed": count["FAIL"], "skipped": count["SKIP"], "note": f"{count['PASS']} passed, {count['FAIL']} failed, {count['SKIP']} skipped"}
        if status == 0:
            return {"status": "ok", **result}
        why = f"no end after {limit:.0f} s" if status is None else f"exit status {status}"
        failures = [l.strip() for l in out.splitlines() if "_test.go:" in l or "opstest" in l or l.lstrip().startswith("--- FAIL")]
        return {"status": "failed", "why": why, **result, "failures": failures[:60], "output": last(out)}
    return work


def bench(shape, *flags, seconds=8):
    def work(limit):
        command = [LPIPE, "--json", "--device", "cuda", "engine", "bench", "--model", os.path.join("shapes", shape), "--seconds", str(seconds), *flags]
        status, out, took = run(command, limit, HERE, environment())
        if status != 0:
            why = f"no end after {limit:.0f} s" if status is None else f"exit status {status}"
            return {"status": "failed", "why": why, "command": command[1:], "output": last(out)}
        result = json.loads(last(out, 1)[0])
        note = f"{result['tokens_per_s']:.0f} tokens/s, {result['gflops'] / 1e3:.0f} TFLOP/s, {result['device_bytes'] / 1e9:.1f} GB"
        return {"status": "ok", "note": note, "command": command[1:], **result}
    return work


def bench_72b(length):
    """One sequence of the 72B shape in NF4. What of it is computed again the memory plan chooses; should the plan be too tight for the
    GPU after all, everything is, and the part says so."""
    def work(limit):
        flags = ["--precision", "bf16", "--rank", "16", "--batch", "1", "--length", str(length), "--quantize", "nf4"]
        began = time.monotonic()
        first = bench("qwen2.5-72b", *flags, seconds=4)(limit)
        rest = limit - (time.monotonic() - began)
        if first["status"] == "ok" or rest < 20:
            return first
        again = bench("qwen2.5-72b", *flags, "--recompute", seconds=4)(rest)
        return {**again, "without_recompute_flag": {k: first.get(k) for k in ("why", "output")}}
    return work


def plan(shape, memory, length, quantize):
    """What the memory plan foretells: no GPU is needed for it."""
    def work(limit):
        command = [LPIPE, "--json", "engine", "plan", "--gpu", "--device-memory", memory, "--model", os.path.join("shapes", shape),
                   "--sequence-length", str(length), "--batch-tokens", str(length), "--quantize", quantize]
        status, out, _ = run(command, limit)
        if status != 0:
            return {"status": "failed", "why": " ".join(last(out, 2))}
        result = json.loads(out)
        note = f"foretold {result['total_bytes'] / 1e9:.1f} of {result['limit_bytes'] / 1e9:.1f} GB, {100 * result['recomputed_share']:.0f} % computed again"
        return {"status": "ok", "note": note, "command": command[1:], **result}
    return work


def peer(*args):
    def work(limit):
        status, out, _ = run([sys.executable, "peer.py", *args], limit)
        if status != 0:
            why = f"no end after {limit:.0f} s" if status is None else f"exit status {status}"
            return {"status": "failed", "why": why, "output": last(out)}
        result = json.loads(last(out, 1)[0])
        return {"status": "ok", "note": result.pop("note"), **result}
    return work


PLANS = [("qwen2.5-7b", "80GB", 4096, "none"), ("qwen2.5-7b", "80GB", 4096, "nf4"), ("qwen2.5-72b", "80GB", 2048, "nf4"),
         ("qwen2.5-72b", "141GB", 6144, "nf4")]


def machine(limit):
    result = {"status": "ok", "python": sys.version.split()[0], "cublaslt": libraries()}
    if shutil.which("nvidia-smi"):
        _, out, _ = run(["nvidia-smi", "--query-gpu=name,memory.total,driver_version,clocks.max.sm,power.limit", "--format=csv"], limit)
        result["nvidia_smi"] = last(out)
    code = "import torch, json; print(json.dumps({'torch': torch.__version__, 'cuda': torch.version.cuda, 'gpu': torch.cuda.is_available()}))"
    status, out, _ = run([sys.executable, "-c", code], limit)
    result["torch"] = json.loads(last(out, 1)[0]) if status == 0 else None
    result["note"] = "torch " + (result["torch"]["torch"] if result["torch"] else "is missing")
    return result


def device(limit):
    status, out, _ = run([LPIPE, "--json", "--device", "cuda", "engine", "info"], limit, env=environment())
    if status != 0:
        return {"status": "failed", "why": " ".join(last(out, 2))}
    info = json.loads(out[out.index("{"):])["device"]
    return {"status": "ok", "note": info.get("Detail", ""), "device": info}


def doctor(limit):
    status, out, _ = run([LPIPE, "--offline", "doctor"], limit, WORK, environment())
    lines = [l for l in out.splitlines() if "cuda" in l]
    return {"status": "ok" if lines else "failed", "note": " ".join(lines[-1].split()) if lines else "", "output": last(out)}


def sanitizer_program():
    """compute-sanitizer: the bundle's own, or the machine's."""
    own = os.path.join(HERE, "sanitizer/bin/compute-sanitizer")
    return own if os.path.exists(own) else shutil.which("compute-sanitizer")


def sanitizer(tool, operations):
    def work(limit):
        pattern = f"Kernels(Half|Float|OwnProducts)/gpu/({operations})$"
        command = [sanitizer_program(), "--tool", tool, "--error-exitcode", "9", os.path.join(HERE, "engine/cuda/cuda.test"), "-test.v", "-test.run", pattern]
        status, out, _ = run(command, limit, os.path.join(HERE, "engine/cuda"), environment())
        ran, summary = len(re.findall(r"^\s*--- PASS", out, re.M)), [l for l in out.splitlines() if "SUMMARY" in l]
        if status == 0 and ran and summary:
            return {"status": "ok", "note": summary[-1].strip("= "), "tests": ran}
        why = f"no end after {limit:.0f} s" if status is None else f"exit status {status}, {ran} tests passed"
        return {"status": "failed", "why": why, "output": last(out, 60)}
    return work


SANITIZERS = [("memcheck", "Linear|LinearLoRA|Attention|HeadLoss|RMSNorm|DoRA|QKNorm|AdamW"), ("racecheck", "LinearLoRA|Attention|HeadLoss|RMSNorm"),
              ("synccheck", "LinearLoRA|Attention|HeadLoss|RMSNorm"), ("initcheck", "LinearLoRA|Attention|HeadLoss")]


def shares(report):
    """What the benchmarks are of the measured peak, and of their peers."""
    parts = report.data["parts"]
    peak = parts.get("peer-gemm", {}).get("tflops")
    for name, p in parts.items():
        if name.startswith("bench-") and p["status"] == "ok":
            other = parts.get(name.replace("bench-", "peer-"), {})
            if peak:
                p["share_of_gemm_peak"] = round(p["gflops"] / 1e3 / peak, 3)
            if other.get("tokens_per_s"):
                p["times_peer"] = round(p["tokens_per_s"] / other["tokens_per_s"], 2)


def main():
    report = Report(sys.argv[1])
    os.makedirs(WORK, exist_ok=True)
    for packed in glob.glob(os.path.join(HERE, "**", "*.gz"), recursive=True):
        unpack(packed, LPIPE if packed.endswith("lpipe-cuda.gz") else packed[:-3])
    m = part(report, "machine", 60, machine)
    part(report, "doctor", 20, doctor)
    d = part(report, "device", 30, device)
    none = None if d and d["status"] == "ok" else "no GPU that can be used: see device"
    report.data["gpu"] = d["note"] if not none else None
    if none:
        print("There is no GPU here that lpipe can use:", d["why"] if d else "no time", "- what needs one is skipped.", flush=True)
    has_torch = m and m.get("torch") and m["torch"]["gpu"]
    no_torch = none or (None if has_torch else "torch sees no GPU, or is missing")
    if none:
        part(report, "kernels-host", 150, tests("cuda.test", "engine/cuda", "Kernels(Float|Half)/host|Errors|Scratch"))
    part(report, "conformance", 75, tests("cuda.test", "engine/cuda", "(Kernels|Repeat|Rounded).*/gpu"), none)
    part(report, "fixtures", 60, tests("model.test", "engine/model", "Forward|RoPE|Loss|Gradients|BF16|Compact|Greedy|LeftPadding|DoRAFolders|Families|CUDA", skip="/host|//host"), none)
    part(report, "training", 90, tests("engine.test", "engine", "CUDA/gpu"), none)
    no_sanitizer = none or (None if sanitizer_program() else "compute-sanitizer is missing")
    part(report, "sanitizer-memcheck", 50, sanitizer(*SANITIZERS[0]), no_sanitizer)
    bf16 = ("--precision", "bf16", "--rank", "16", "--length", "4096")
    part(report, "bench-7b", 60, bench("qwen2.5-7b", *bf16, "--batch", "1"), none)
    part(report, "bench-0.5b", 40, bench("qwen2.5-0.5b", *bf16, "--batch", "4"), none)
    part(report, "peer-gemm", 40, peer("gemm"), no_torch)
    part(report, "peer-7b", 75, peer("train", "shapes/qwen2.5-7b", "1", "4096"), no_torch)
    part(report, "peer-0.5b", 60, peer("train", "shapes/qwen2.5-0.5b", "4", "4096"), no_torch)
    part(report, "bench-7b-nf4", 60, bench("qwen2.5-7b", *bf16, "--batch", "1", "--quantize", "nf4"), none)
    part(report, "bench-7b-decode", 45, bench("qwen2.5-7b", "--precision", "bf16", "--decode", "--batch", "1", "--length", "64", seconds=5), none)
    for shape, memory, length, quantize in PLANS:
        part(report, f"plan-{shape.removeprefix('qwen2.5-')}-{quantize}-{length}", 20, plan(shape, memory, length, quantize))
    part(report, "bench-72b-nf4-2048", 60, bench_72b(2048), none)
    memory = d["device"].get("Memory", 0) if not none else 0
    part(report, "bench-72b-nf4-6144", 75, bench_72b(6144), none or (None if memory > 130e9 else f"the GPU has {memory / 1e9:.0f} GB: 141 are needed"))
    for tool, operations in SANITIZERS[1:]:
        part(report, "sanitizer-" + tool, 40, sanitizer(tool, operations), no_sanitizer)
    shares(report)
    states = [p["status"] for p in report.data["parts"].values()]
    failed = [n for n, p in report.data["parts"].items() if p["status"] == "failed"]
    note = f"{states.count('ok')} parts ok, {len(failed)} failed, {states.count('skipped')} skipped"
    if none:
        note = "no GPU: " + note
    report.add("summary", {"status": "failed" if failed else "ok", "gpu": not none, "note": note, "failed": failed, "seconds": round(time.monotonic() - START, 1)})
    print("report:", report.path)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
