"""Peak memory of each data stage over many rows: `lpipe repro` of one stage after the other, each in a process of its own.

    python tools/bench/data_memory.py LPIPE TOKENIZER WORK [ROWS]

The rows are unlike each other, as a row's share of memory is then largest: ids, prompts and n-grams of their own. Prints the
peak resident memory, seconds and processor seconds of each, and fails at the end if a stage failed, or if a peak is above 400 MB
for up to two million rows.
"""

import json
import os
import pathlib
import random
import resource
import subprocess
import sys
import time

lpipe, tokenizer, work = (pathlib.Path(p).resolve() for p in sys.argv[1:4])
wanted = int(sys.argv[4]) if len(sys.argv) > 4 else 2_000_000
LIMIT = 400  # MB

WORDS = """farmer apple river seven train cloud bakery price sells buys walks twice half third morning evening school pupils teacher garden
flowers water bottle miles hours minutes euros total remaining each every between house window friend brother sister market table chair""".split()

PIPELINE = """
stage "convert" "qa" {{
  in     = {{ raw = "rows.jsonl" }}
  format = "messages"
}}
stage "preprocess" "clean" {{ in = {{ data = stage.qa.data }} }}
stage "validate" "checked" {{
  in              = {{ data = stage.clean.data }}
  near_duplicates = true
}}
stage "mix" "mixed" {{
  in      = {{ data = [stage.checked.data] }}
  weights = [1]
}}
stage "split" "sets" {{
  in  = {{ data = stage.mixed.data }}
  out = {{ train = "build/train.jsonl", validation = "build/validation.jsonl", test = "build/test.jsonl", report = "build/split.json" }}
}}
stage "tokenize" "tokens" {{ in = {{ data = stage.mixed.data, tokenizer = "{tokenizer}" }} }}
stage "split" "token_sets" {{ in = {{ tokens = stage.tokens.tokens }} }}
"""


def write_rows(path):
    rng = random.Random(7)
    with open(path, "w") as f:
        for i in range(wanted):
            prompt = f"{i * 7919:x} {' '.join(rng.choices(WORDS, k=40))} {i}"
            messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": "\\boxed{1}"}]
            f.write(json.dumps({"id": f"r{i}", "messages": messages, "answer": "1"}) + "\n")


def measured(stage):
    """Runs a stage and returns its peak in MB, seconds, processor seconds, and why it failed, else "". Linux tells the largest
    peak of all children so far, so each is told by a process that has one child only."""
    code = (
        "import json, resource, subprocess, sys, time\n"
        "start = time.time()\n"
        "rc = subprocess.run(sys.argv[1:]).returncode\n"
        "u = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(json.dumps([rc, u.ru_maxrss / 1024, time.time() - start, u.ru_utime + u.ru_stime]))\n"
    )
    out = subprocess.run([sys.executable, "-c", code, lpipe, "-C", work, "-q", "repro", stage], capture_output=True, text=True)
    rc, *numbers = json.loads(out.stdout.strip().splitlines()[-1]) if out.returncode == 0 else (out.returncode, 0, 0, 0)
    return *numbers, out.stderr.strip() or f"exit {rc}" if rc else ""


def main():
    work.mkdir(parents=True, exist_ok=True)
    write_rows(work / "rows.jsonl")
    (work / "pipeline.hcl").write_text(PIPELINE.format(tokenizer=tokenizer))
    print(f"{wanted} rows, {(work / 'rows.jsonl').stat().st_size / 1e6:.0f} MB, {os.cpu_count()} processors; load {os.getloadavg()[0]:.1f}")
    bad = []
    for stage in ("qa", "clean", "checked", "mixed", "sets", "tokens", "token_sets"):
        peak, seconds, cpu, wrong = measured(stage)
        if not wrong and peak > LIMIT and wanted <= 2_000_000:
            wrong = f"above {LIMIT} MB"
        print(f"{stage:11} {peak:5.0f} MB {seconds:7.1f} s {cpu:7.1f} CPU s" + (f"  FAILED: {wrong}" if wrong else ""), flush=True)
        if wrong:
            bad.append(stage)
    if bad:
        sys.exit(f"failed: {', '.join(bad)}")


main()
