"""What experiments cost: wall and processor seconds of the command line, children included.

    python3 tools/bench/exp.py LPIPE WORK

A sweep of 200 instances of one trivial stage, beside the same 200 commands by xargs, as many at once; the same with four stages
each, of which one is shared; again, with nothing to do. `exp show` of 5,000 records with six metrics. `plots -o` of 100 runs
with 10,000 rows of six numbers, and that page in Chromium, where there is one. The best of three is printed, of the sweeps'
first runs too: each in a project of its own.
"""

import json
import math
import os
import pathlib
import random
import re
import resource
import shutil
import subprocess
import sys
import time

lpipe, work = (pathlib.Path(p).resolve() for p in sys.argv[1:3])

SWEEP = """
variable "n" { default = 0 }
stage "shell" "one" {
  out     = { text = "build/one.txt" }
  command = "echo ${var.n} > ${self.out.text}"
}
"""

CHAIN = SWEEP + """
stage "shell" "shared" {
  out     = { text = "build/shared.txt" }
  command = "echo shared > ${self.out.text}"
}
stage "shell" "two" {
  in      = { one = stage.one.text, shared = stage.shared.text }
  out     = { text = "build/two.txt" }
  command = "cat ${stage.one.text} ${stage.shared.text} > ${self.out.text}"
}
stage "shell" "three" {
  in      = { two = stage.two.text }
  out     = { metrics = "build/three.json" }
  metrics = ["metrics"]
  command = "echo '{\\"n\\": ${var.n}}' > ${self.out.metrics}"
}
"""

CURVES = """
variable "n" { default = 0 }
stage "shell" "train" {
  in      = { curve = "data/${var.n}.jsonl" }
  out     = { curve = "build/curve.jsonl" }
  plots   = ["curve"]
  command = "cp data/${var.n}.jsonl ${self.out.curve}"
}
"""


def timed(args, cwd):
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([str(a) for a in args], cwd=cwd, capture_output=True, text=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{args}: exit status {done.returncode}\n{done.stderr[-2000:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def project(name, text):
    at = work / name
    shutil.rmtree(at, ignore_errors=True)
    at.mkdir()
    (at / "pipeline.hcl").write_text(text)
    return at


def best(times, run):
    return min((run() for _ in range(times)), key=lambda t: t[0])


def row(what, t, note=""):
    print(f"| {what} | {t[0]:.3f} | {t[1]:.2f} | {note} |", flush=True)


def sweeps():
    values = "n=[" + ",".join(map(str, range(1, 201))) + "]"
    jobs = str(os.cpu_count())
    bare = best(3, lambda: timed(["sh", "-c", f"mkdir -p bare && seq 200 | xargs -P {jobs} -I N sh -c 'echo N > bare/N.txt'"], work))
    row("200 commands by xargs", bare)
    first = best(3, lambda: timed([lpipe, "exp", "run", "-q", "--set", values], project("sweep", SWEEP)))
    row("`exp run` of 200 instances, one stage each", first, f"{first[0] - bare[0]:.2f} s over the commands; at most 2")
    again = best(3, lambda: timed([lpipe, "exp", "run", "-q", "--set", values], work / "sweep"))
    row("again, nothing to do", again)
    chain = best(3, lambda: timed([lpipe, "exp", "run", "-q", "--set", values], project("chain", CHAIN)))
    row("`exp run` of 200 instances, three stages each and a shared one", chain, f"601 stages, {chain[0] / 601 * 1000:.1f} ms each")


def records():
    at, instances = project("show", SWEEP), {}
    for n in range(5000):
        name, vars = f"n={n}", {"n": n, "lr": n / 1e5, "seed": n % 7}
        instances[name] = vars
        folder = at / ".lpipe/exp/many" / name / ".lpipe"
        folder.mkdir(parents=True)
        # Schema 1 had no check. The reader takes both.
        record = {"schema": 1, "experiment": "many", "instance": name, "state": "done", "point": vars, "set": ["n"], "vars": vars,
                  "metrics": {f"tuned.metric{i}": random.random() for i in range(6)}, "seconds": 1.5, "started": "2026-01-01T00:00:00Z",
                  "finished": "2026-01-01T00:00:02Z", "ran": 1, "reused": 3}
        (folder / "record.json").write_text(json.dumps(record, separators=(",", ":")))
    (at / ".lpipe/exp/many/experiment.json").write_text(json.dumps(
        {"schema": 1, "name": "many", "metric": "tuned.metric0", "instances": instances}, separators=(",", ":")))
    row("`exp show` of 5,000 instances with six metrics", best(5, lambda: timed([lpipe, "exp", "show"], at)), "at most 0.3")
    row("`exp show --json` of them", best(5, lambda: timed([lpipe, "--json", "exp", "show"], at)))


def page():
    at = project("page", CURVES)
    (at / "data").mkdir()
    for n in range(100):
        with open(at / f"data/{n}.jsonl", "w") as f:
            for step in range(1, 10001):
                x = step / 10000
                f.write(f'{{"step":{step},"tokens":{step * 4096},"train/loss":{0.4 + 2 * math.exp(-x * (n % 9 + 1)) + random.gauss(0, 0.1):.15f},'
                        f'"train/grad_norm":{random.random():.15f},"train/lr":{2e-4 * (1 - x):.15f},"tokens_per_s":{9000 + random.random():.1f},"memory_mb":512.5}}\n')
    timed([lpipe, "exp", "run", "-q", "--set", "n=[" + ",".join(map(str, range(100))) + "]"], at)
    made = best(3, lambda: timed([lpipe, "plots", "-o", "report.html"], at))
    row("`plots -o` of 100 runs of 10,000 rows", made, f"{(at / 'report.html').stat().st_size / 1e6:.1f} MB; at most 5")
    chromium = next((p for p in map(shutil.which, ["chromium", "chromium-browser", "google-chrome"]) if p), None)
    if not chromium:
        print("| no Chromium here, so the page was not opened | | | |")
        return

    def opened():
        t = timed([chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                   f"--user-data-dir={work}/profile", "--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom", f"file://{at}/report.html"], at)
        return int(re.search(r'data-ready="(\d+)"', t[2])[1]) / 1000, t[1], ""

    row("that page in Chromium, until it is drawn", best(3, opened), "at most 2")


print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors\n\n| work | seconds | processor | |\n|---|---|---|---|")
sweeps()
records()
page()
