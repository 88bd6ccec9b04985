"""The work of `make bench-pipeline`, a function for each group of rows."""
import json, os, random, shutil, subprocess, time

from peers import ROOT

HCL = 'source "data" { path = "data" }\n'


def start(bench):
    row = "start (`version`)"
    bench.row(row, "≤ 0.006", lambda of: of("lpipe") <= 0.006)
    words = {"lpipe": "version", "dud": "version", "limit": "start"}
    for _ in range(max(10, bench.repeat)):
        for who, path in bench.peers.path.items():
            bench.measure(row, who, [path, words.get(who, "--version")], ROOT)


def stages(bench):
    chains_of_ten(bench, 100 if bench.quick else 1000, ["lpipe", "ninja", "make", "dud", "dvc"])


def stages20k(bench):
    count = 2000 if bench.quick else 20000
    row = f"no-op `repro`, {count:,} stages"
    bench.row(row, "≤ 3 × ninja", lambda of: of("lpipe") <= 3 * of("ninja"))
    for who in ("lpipe", "ninja"):
        dir = bench.folder(f"{who}-many")
        command = write_stages(bench, who, dir, count)
        bench.run(command, dir)
        bench.run(command, dir)
        for _ in range(bench.repeat):
            bench.measure(row, who, command, dir)
        bench.drop(dir)


def chains_of_ten(bench, count, tools):
    """count stages of cp, each ten a chain: run, looked at, run anew from one source."""
    first, noop, one = f"first run, {count:,} stages of `cp` in chains of ten", f"no-op `repro`, {count:,} stages", "one source changed, 10 stages run"
    bench.row(noop, "≤ 3 × ninja, ≤ 0.015", lambda of: of("lpipe") <= min(3 * of("ninja"), 0.015))
    bench.row(first, "≤ 1.3 × ninja", lambda of: of("lpipe") <= 1.3 * of("ninja"))
    own = lambda: (bench.value(first, "lpipe", "cpu") - bench.value(first, "make", "cpu")) / count * 1000
    bench.row(one, "≤ 1.5 × ninja", lambda of: of("lpipe") <= 1.5 * of("ninja"))
    for turn in range(bench.repeat):
        for who in tools:
            if not bench.peers.has(who) or who in ("dud", "dvc") and turn > 0:
                continue
            n = min(count, 100) if who == "dvc" else count
            note = f"for {n}" if n != count else ""
            dir = bench.folder(f"{who}-stages-{turn}")
            command = write_stages(bench, who, dir, n)
            bench.measure(first, who, and_keep(command, who), dir, note)
            if (dir / f"out/{n - 1}.txt").read_text() != f"source {(n - 1) // 10}":
                raise RuntimeError(f"{who} did not make out/{n - 1}.txt")
            bench.run(command, dir)
            bench.measure(noop, who, command, dir, note)
            time.sleep(0.05)
            (dir / "in0.txt").write_text(f"changed {turn}")
            bench.measure(one, who, command, dir, note)
            if (dir / "out/9.txt").read_text() != f"changed {turn}":
                raise RuntimeError(f"{who} did not make out/9.txt anew")
            bench.drop(dir)
    if bench.peers.has("make"):
        bench.rows[first]["reach"] += f"; of our own ≤ 1.5 ms of processor a stage more than make: {own():.2f}"


def and_keep(command, who):
    """dud keeps nothing before it is told to, and then has nothing to compare with; as links `cp` could not write them again."""
    return command if who != "dud" else ["sh", "-c", f"{command[0]} run && {command[0]} commit --copy"]


def write_stages(bench, who, dir, n):
    """Writes sources and a pipeline of n copies, and returns the command that runs it."""
    for chain in range(n // 10):
        (dir / f"in{chain}.txt").write_text(f"source {chain}")
    edges = [(i, f"in{i // 10}.txt" if i % 10 == 0 else f"out/{i - 1}.txt", f"out/{i}.txt") for i in range(n)]
    path = bench.peers.path[who]
    if who != "lpipe" and who != "ninja":
        (dir / "out").mkdir()  # the others make it
    if who == "lpipe":
        (dir / "pipeline.hcl").write_text("".join(
            f'stage "shell" "s{i}" {{\n  in = {{ a = {json.dumps(a) if i % 10 == 0 else f"stage.s{i - 1}.o"} }}\n'
            f'  out = {{ o = "{b}" }}\n  command = "cp {a} {b}"\n}}\n' for i, a, b in edges))
        return [path, "repro", "-q", "-j", "2"]
    if who == "ninja":
        (dir / "build.ninja").write_text("rule cp\n  command = cp $in $out\n" + "".join(f"build {b}: cp {a}\n" for _, a, b in edges))
        return [path, "-j2", "--quiet"]
    if who == "make":
        (dir / "Makefile").write_text("all: " + " ".join(b for _, _, b in edges) + "\n" + "".join(f"{b}: {a}\n\tcp {a} {b}\n" for _, a, b in edges))
        return [path, "-j2", "-s"]
    if who == "dud":
        bench.run([path, "init"], dir)
        for i, a, b in edges:
            (dir / f"s{i}.yaml").write_text(f"command: cp {a} {b}\nworking-dir: .\ninputs:\n  {a}: {{}}\noutputs:\n  {b}: {{}}\n")
        bench.run([path, "stage", "add", *[f"s{i}.yaml" for i, _, _ in edges]], dir)
        return [path, "run"]
    (dir / "dvc.yaml").write_text("stages:\n" + "".join(f"  s{i}:\n    cmd: cp {a} {b}\n    deps: [{a}]\n    outs: [{b}]\n" for i, a, b in edges))
    dvc_init(bench, dir)
    return [path, "repro", "-q"]


def dvc_init(bench, dir):
    for words in (["init", "--no-scm", "-q"], ["config", "core.analytics", "false"], ["config", "cache.type", "hardlink"]):
        bench.run([bench.peers.path["dvc"], *words], dir)


def files(bench):
    """A folder of small files: taken in, looked at, one changed, put back."""
    count = 7000 if bench.quick else 70000
    made = bench.folder("made")
    small_files(made, count, lambda: random.randint(1000, 20000))
    name = f"{count:,} files: "
    row = {key: name + text for key, text in {
        "add": "`add`", "status": "no-op `status`", "changed": "one changed, `status`", "checkout": "`checkout` by link", "again": "`checkout`, nothing to do"}.items()}
    bench.row(row["add"], "≤ 2.0, ≤ 100 MB", lambda of: of("lpipe") <= 2.0 and of("lpipe", "peak_mb") <= 100)
    bench.row(row["status"], "≤ git", lambda of: of("lpipe") <= of("git"))
    bench.row(row["changed"], "≤ git", lambda of: of("lpipe") <= of("git"))
    bench.row(row["checkout"], "≤ 0.7", lambda of: of("lpipe") <= 0.7)
    bench.row(row["again"], "≤ 0.15", lambda of: of("lpipe") <= 0.15)
    for turn in range(1 if bench.quick else min(bench.repeat, 2)):
        for who, take in (("lpipe", files_lpipe), ("git", files_git), ("dud", files_dud), ("dvc", files_dvc), ("limit", files_limit)):
            if bench.peers.has(who) and not (who in ("dud", "dvc") and turn > 0):
                dir = bench.folder(f"{who}-files")
                shutil.copytree(made, dir / "data")
                os.sync()
                take(bench, row, dir)
                bench.drop(dir)
    bench.drop(made)


def small_files(folder, count, size):
    random.seed(1)
    for i in range(count):
        path = folder / f"d{i % 700}" / f"{i}.bin"
        if i < 700:
            path.parent.mkdir(parents=True)
        path.write_bytes(random.randbytes(size()))


def look(bench, row, who, status, dir):
    """Status without a change, and after a change of one file that no peer may miss."""
    time.sleep(2.5)  # past the time in which a second write could go unseen: such files are hashed once more
    bench.run(status, dir)
    for _ in range(bench.repeat):
        bench.measure(row["status"], who, status, dir)
    changed = dir / "data" / "d0" / "0.bin"
    for turn in range(bench.repeat):
        kept = changed.read_bytes()
        changed.unlink()
        changed.write_bytes(b"changed %d" % turn)
        bench.measure(row["changed"], who, status, dir)
        changed.unlink()
        changed.write_bytes(kept)
        bench.run(status, dir)


def put_back(bench, row, who, checkout, dir):
    bench.drop(dir / "data")
    bench.measure(row["checkout"], who, checkout, dir)
    bench.run(checkout, dir)
    for _ in range(bench.repeat):
        bench.measure(row["again"], who, checkout, dir)


def files_lpipe(bench, row, dir):
    lpipe = bench.peers.path["lpipe"]
    (dir / "pipeline.hcl").write_text(HCL)
    bench.measure(row["add"], "lpipe", [lpipe, "add", "-q"], dir)
    look(bench, row, "lpipe", [lpipe, "status", "-q"], dir)
    unseen_by_time(bench, lpipe, dir)
    put_back(bench, row, "lpipe", [lpipe, "checkout", "-q"], dir)


def unseen_by_time(bench, lpipe, dir):
    """A file of the same size with its time put back must be found, by its change time."""
    path = dir / "data" / "d1" / "1.bin"
    kept, was = path.read_bytes(), path.stat()
    path.unlink()
    path.write_bytes(bytes(len(kept)))
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    if "data/d1/1.bin" not in bench.run([lpipe, "status"], dir):
        raise RuntimeError("lpipe missed a file of the same size whose time was put back")
    path.unlink()
    path.write_bytes(kept)
    bench.run([lpipe, "status", "-q"], dir)


def files_git(bench, row, dir):
    git = bench.peers.path["git"]
    bench.run([git, "init", "-q"], dir)
    bench.measure(row["add"], "git", [git, "add", "data"], dir)
    bench.run([git, "-c", "user.name=b", "-c", "user.email=b@b", "-c", "gc.auto=0", "commit", "-qm", "x"], dir)
    look(bench, row, "git", [git, "status", "-s"], dir)
    put_back(bench, row, "git", [git, "checkout", "-q", "--", "data"], dir)


def files_dud(bench, row, dir):
    dud = bench.peers.path["dud"]
    bench.run([dud, "init"], dir)
    (dir / "data.yaml").write_text("working-dir: .\noutputs:\n  data:\n    is-dir: true\n")
    bench.run([dud, "stage", "add", "data.yaml"], dir)
    bench.measure(row["add"], "dud", [dud, "commit"], dir)
    look(bench, row, "dud", [dud, "status"], dir)
    put_back(bench, row, "dud", [dud, "checkout"], dir)


def files_dvc(bench, row, dir):
    dvc = bench.peers.path["dvc"]
    dvc_init(bench, dir)
    bench.measure(row["add"], "dvc", [dvc, "add", "-q", "data"], dir)
    look(bench, row, "dvc", [dvc, "status"], dir)
    put_back(bench, row, "dvc", [dvc, "checkout", "-q"], dir)


def files_limit(bench, row, dir):
    limit = bench.peers.path["limit"]
    bench.measure(row["add"], "limit", [limit, "add", "data", "objects"], dir)
    for _ in range(bench.repeat):
        bench.measure(row["status"], "limit", [limit, "status", "data"], dir)
    bench.measure(row["checkout"], "limit", [limit, "checkout", "data", "placed"], dir)


def million(bench):
    """Tiny files, very many: what counts is the walk."""
    count = 100000 if bench.quick else 1000000
    row = f"{count:,} files: no-op `status`"
    bench.row(row, "≤ 1.2, ≤ 400 MB", lambda of: of("lpipe") <= 1.2 and of("lpipe", "peak_mb") <= 400)
    if not bench.room(count * 5500, row):
        return
    lpipe, dir = bench.peers.path["lpipe"], bench.folder("million")
    small_files(dir / "data", count, lambda: random.randint(10, 100))
    (dir / "pipeline.hcl").write_text(HCL)
    bench.run([lpipe, "add", "-q"], dir)
    time.sleep(2.5)
    bench.run([lpipe, "status", "-q"], dir)
    for _ in range(bench.repeat):
        bench.measure(row, "lpipe", [lpipe, "status", "-q"], dir)
        if bench.peers.has("limit"):
            bench.measure(row, "limit", [bench.peers.path["limit"], "status", "data"], dir)
    bench.drop(dir)


def big(bench):
    """Large files, taken in with no copy made: what counts is the hash. All take in the same files, in turns."""
    size = (64 if bench.quick else 1024) << 20
    for count, each in ((4, size), (1, 4 * size)):
        row = f"`add` of {count} × {each >> 20:,} MiB"
        bench.row(row, "≤ 1.25 × limit", lambda of: of("lpipe") <= 1.25 * of("limit"))
        if not bench.room(2.2 * count * each, row):  # DVC copies where it cannot link; everyone else moves
            continue
        dir = bench.folder("big")
        (dir / "data").mkdir()
        for i in range(count):
            with open(dir / "data" / f"{i}.bin", "wb") as f:
                for _ in range(each >> 20):
                    f.write(os.urandom(1 << 20))
        for turn in range(bench.repeat):
            for who in ("limit", "lpipe", "dud", "dvc") if turn % 2 == 0 else ("lpipe", "limit", "dud"):
                if bench.peers.has(who):
                    command = big_files(bench, who, dir, count)
                    os.sync()
                    bench.measure(row, who, command, dir)
                    take_back(dir)
        bench.delete(dir)


def big_files(bench, who, dir, count):
    """What a tool needs beside the files, and the command that takes them in."""
    path = bench.peers.path[who]
    if who == "limit":
        return [path, "hash", *[f"data/{i}.bin" for i in range(count)]]
    if who == "lpipe":
        (dir / "pipeline.hcl").write_text(HCL)
        return [path, "add", "-q"]
    if who == "dud":
        bench.run([path, "init"], dir)
        (dir / "data.yaml").write_text("working-dir: .\noutputs:\n  data:\n    is-dir: true\n")
        bench.run([path, "stage", "add", "data.yaml"], dir)
        return [path, "commit"]
    dvc_init(bench, dir)
    return [path, "add", "-q", "data"]


def take_back(dir):
    """Leaves the files in data alone, as they were before a tool took them into its cache."""
    for path in (dir / "data").iterdir():
        if path.is_symlink():
            path.resolve().replace(path)
        path.chmod(0o644)
    for path in dir.iterdir():
        if path.is_dir() and path.name != "data":
            shutil.rmtree(path)
        elif path.name != "data":
            path.unlink()


def s3(bench):
    """The rows of `make bench-remote`, which starts a server of its own; its peers are named in its own lines."""
    out = ROOT / "build" / "bench-remote.json"
    out.unlink(missing_ok=True)
    done = subprocess.run([ROOT / "tools" / "bench" / "remote.sh"], cwd=ROOT, stdout=subprocess.DEVNULL)
    if done.returncode or not out.exists():
        bench.left_out.append(f"s3: tools/bench/remote.sh ended with {done.returncode}")
        return
    remote = json.loads(out.read_text())
    for one in remote["rows"]:
        name = "S3: " + one["work"]
        row = bench.row(name)
        row["tools"].setdefault(one["tool"], []).append({"seconds": one["seconds"], "cpu": 0, "peak_mb": one["peak_mb"]})
        if one.get("note"):
            row["notes"][one["tool"]] = one["note"]
    for name, text in remote["versions"].items():
        bench.peers.version.setdefault(name, text)
