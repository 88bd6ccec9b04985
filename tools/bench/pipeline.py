#!/usr/bin/env python3
"""lpipe beside make, ninja, git and DVC on the same work, in the same run.

Prints a Markdown table; --json FILE writes the figures too. LPIPE_BENCH=quick takes smaller sizes and leaves DVC out.
Peers that are not on the machine are installed, pinned, from PyPI into build/bench-venv.
"""
import argparse, json, os, random, shutil, subprocess, sys, tempfile, time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LPIPE = ROOT / "bin" / "lpipe"
PINS = {"ninja": ["ninja==1.13.0"], "dvc": ["dvc==3.63.0", "pathspec==0.12.1"]}  # DVC 3.63 cannot use pathspec 1
QUICK = os.environ.get("LPIPE_BENCH") == "quick"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="lpipe-bench-", dir=os.environ.get("LPIPE_BENCH_DIR")))
    rows = []
    try:
        tools = {"ninja": tool("ninja"), "make": shutil.which("make"), "git": shutil.which("git")}
        if not QUICK:
            tools["dvc"] = tool("dvc")
        start_up(rows, tools)
        stages(rows, tools, base, 1000)
        files(rows, tools, base, 7000 if QUICK else 70000)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    versions = {name: version(path) for name, path in tools.items() if path} | {"lpipe": version(LPIPE)}
    show(rows, versions)
    if args.json:
        args.json.write_text(json.dumps({"rows": rows, "versions": versions}, indent=1))


def tool(name):
    """The path of a peer: the machine's own, or installed here."""
    found = shutil.which(name)
    if found:
        return found
    venv = ROOT / "build" / "bench-venv"
    if not venv.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    if not (venv / "bin" / name).exists():
        subprocess.run([venv / "bin" / "pip", "install", "-q", *PINS[name]], check=True)
    return str(venv / "bin" / name)


def version(path):
    out = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
    return out.splitlines()[0] if out else "?"


def seconds(command, cwd, repeat=3):
    """Best wall time of a command; it must succeed."""
    best = None
    for _ in range(repeat):
        start = time.perf_counter()
        done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True)
        took = time.perf_counter() - start
        if done.returncode:
            sys.exit(f"{command} in {cwd}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        best = took if best is None else min(best, took)
    return best


def add(rows, work, who, value, note=""):
    rows.append({"work": work, "tool": who, "seconds": round(value, 4), "note": note})
    print(f"  {work}: {who} {value:.4f} s {note}", file=sys.stderr)


def start_up(rows, tools):
    for who, path in [("lpipe", LPIPE), *tools.items()]:
        command = [path, "version"] if who == "lpipe" else [path, "--version"]
        add(rows, "start", who, seconds(command, ROOT, 10))


def stages(rows, tools, base, count):
    """count stages of cp in chains of ten."""
    for who, write, run in [
        ("lpipe", write_lpipe, [LPIPE, "repro", "-q", "-j", "2"]),
        ("make", write_make, [tools["make"], "-j2", "-s"]),
        ("ninja", write_ninja, [tools["ninja"], "-j2", "--quiet"]),
    ] + ([("dvc", write_dvc, [tools["dvc"], "repro", "-q"])] if tools.get("dvc") else []):
        n = 50 if who == "dvc" else count
        note = f"{n} stages" if n != count else ""
        dir = base / who
        dir.mkdir()
        chains(dir, n)
        write(dir, n)
        if who == "dvc":
            subprocess.run([tools["dvc"], "init", "--no-scm", "-q"], cwd=dir, check=True)
        add(rows, f"first run, {count} stages of cp", who, seconds(run, dir, 1), note)
        add(rows, f"no-op, {count} stages", who, seconds(run, dir, 1 if who == "dvc" else 5), note)
        (dir / "in0.txt").write_text("changed")
        add(rows, "one source changed, 10 stages run", who, seconds(run, dir, 1), note)


def chains(dir, n):
    for chain in range(n // 10):
        (dir / f"in{chain}.txt").write_text(f"source {chain}")


def edges(n):
    for i in range(n):
        yield i, (f"in{i // 10}.txt" if i % 10 == 0 else f"out/{i - 1}.txt"), f"out/{i}.txt"


def write_lpipe(dir, n):
    text = [
        f'stage "shell" "s{i}" {{\n  in = {{ a = {json.dumps(a) if i % 10 == 0 else f"stage.s{i - 1}.o"} }}\n'
        f'  out = {{ o = "{b}" }}\n  command = "cp {a} {b}"\n}}\n' for i, a, b in edges(n)]
    (dir / "pipeline.hcl").write_text("".join(text))


def write_make(dir, n):
    (dir / "out").mkdir()
    all = " ".join(b for _, _, b in edges(n))
    (dir / "Makefile").write_text(f"all: {all}\n" + "".join(f"{b}: {a}\n\tcp {a} {b}\n" for _, a, b in edges(n)))


def write_ninja(dir, n):
    (dir / "build.ninja").write_text("rule cp\n  command = cp $in $out\n" + "".join(f"build {b}: cp {a}\n" for _, a, b in edges(n)))


def write_dvc(dir, n):
    (dir / "out").mkdir()
    (dir / "dvc.yaml").write_text("stages:\n" + "".join(
        f"  s{i}:\n    cmd: cp {a} {b}\n    deps: [{a}]\n    outs: [{b}]\n" for i, a, b in edges(n)))


def files(rows, tools, base, count):
    """A folder of small files of 1 to 20 KB: taken in, looked at, one changed, put back."""
    random.seed(1)
    made = base / "made"
    for i in range(count):
        path = made / f"d{i % 700}" / f"{i}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.randbytes(random.randint(1000, 20000)))
    name = f"{count} files"
    dir = base / "lpipe-files"
    dir.mkdir()
    shutil.copytree(made, dir / "data")
    (dir / "pipeline.hcl").write_text('source "data" { path = "data" }\n')
    add(rows, f"{name}: add", "lpipe", seconds([LPIPE, "add", "-q"], dir, 1))
    time.sleep(2.5)  # past the racy window: what was written just now is hashed once more
    seconds([LPIPE, "status", "-q"], dir, 1)
    add(rows, f"{name}: no-op status", "lpipe", seconds([LPIPE, "status", "-q"], dir))
    (dir / "data" / "d0" / "0.bin").unlink()
    (dir / "data" / "d0" / "0.bin").write_bytes(b"changed")
    add(rows, f"{name}: one changed, status", "lpipe", seconds([LPIPE, "status", "-q"], dir, 1))
    dir = base / "git-files"
    dir.mkdir()
    shutil.copytree(made, dir / "data")
    git = tools["git"]
    subprocess.run([git, "init", "-q"], cwd=dir, check=True)
    add(rows, f"{name}: add", "git", seconds([git, "add", "data"], dir, 1))
    subprocess.run([git, "-c", "user.name=b", "-c", "user.email=b@b", "commit", "-qm", "x"], cwd=dir, check=True)
    time.sleep(1.5)
    seconds([git, "status", "-s"], dir, 1)
    add(rows, f"{name}: no-op status", "git", seconds([git, "status", "-s"], dir))
    (dir / "data" / "d0" / "0.bin").write_bytes(b"changed")
    add(rows, f"{name}: one changed, status", "git", seconds([git, "status", "-s"], dir, 1))


def show(rows, versions):
    who = list(dict.fromkeys(r["tool"] for r in rows))
    print("| work, seconds | " + " | ".join(who) + " | lpipe × fastest peer |\n|---" * 1 + "|---" * (len(who) + 1) + "|")
    for work in dict.fromkeys(r["work"] for r in rows):
        cell = {r["tool"]: f'{r["seconds"]:.3f}' + (f' ({r["note"]})' if r["note"] else "") for r in rows if r["work"] == work}
        peers = [r["seconds"] for r in rows if r["work"] == work and r["tool"] != "lpipe" and not r["note"]]
        own = next((r["seconds"] for r in rows if r["work"] == work and r["tool"] == "lpipe"), None)
        ratio = f"{own / min(peers):.2f}" if own and peers else ""
        print(f"| {work} | " + " | ".join(cell.get(w, "") for w in who) + f" | {ratio} |")
    print("\n" + ", ".join(f"{name}: {text}" for name, text in versions.items()))


if __name__ == "__main__":
    main()
