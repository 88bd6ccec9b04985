#!/usr/bin/env python3
"""Reads what lpipe writes, from doc/format*.md alone, and checks every hash and reference.

    reader.py PROJECT [BUCKET]            a project's folder, and a remote in a folder
    reader.py --tokens FOLDER [PACKS]     a token folder, and a pack index of it

Prints what was read as JSON; the first thing that is not as the documents say ends it with a message. It shares no code with
lpipe: where it and lpipe disagree, one of them or the documents are wrong.
"""

import glob
import hashlib
import json
import os
import re
import struct
import sys

import blake3


class Wrong(Exception):
    pass


def need(condition, message):
    if not condition:
        raise Wrong(message)


seen = {}


def digest(data):
    """BLAKE3 in plain Python is slow: what was hashed once is known by another hash."""
    key = hashlib.sha256(data).digest()
    if key not in seen:
        seen[key] = blake3.digest(data)
    return seen[key]


def hexdigest(data):
    return digest(data).hex()


def read(*parts):
    with open(os.path.join(*parts), "rb") as f:
        return f.read()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def crc_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


CRC = crc_table()


class Bytes:
    """A cursor over bytes."""

    def __init__(self, data, what):
        self.data, self.at, self.what = data, 0, what

    def take(self, n):
        need(self.at + n <= len(self.data), f"{self.what} ends early")
        self.at += n
        return self.data[self.at - n:self.at]

    def uvarint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                need(byte or shift == 7, f"{self.what}: a number that is not in its shortest form")
                return value

    def end(self):
        need(self.at == len(self.data), f"{self.what}: bytes after the end")


# Trees, as bytes -> {name: entry}

def parse_tree(data, what):
    b = Bytes(data, what)
    need(b.take(8) == b"lptree\x00\x01", f"{what} does not begin as a tree")
    entries, last = {}, None
    for _ in range(b.uvarint()):
        kind = b.take(1)[0]
        name = b.take(b.uvarint())
        need(name not in (b"", b".", b"..") and b"/" not in name and b"\0" not in name, f"{what}: the name {name}")
        need(last is None or last < name, f"{what}: names are not in order")
        last = name
        if kind in (0, 1):
            entries[name] = {"kind": kind, "id": b.take(32).hex(), "size": b.uvarint(), "files": 1}
        elif kind == 2:
            entries[name] = {"kind": kind, "id": b.take(32).hex(), "size": b.uvarint(), "files": b.uvarint()}
        elif kind == 3:
            text = b.take(b.uvarint())
            need(text and b"\0" not in text and not text.startswith(b"/"), f"{what}: the link {text}")
            entries[name] = {"kind": kind, "size": 0, "files": 0}
        else:
            raise Wrong(f"{what}: an entry of type {kind}")
    b.end()
    return entries


class Store:
    """Objects by hash: of a cache, or of a remote."""

    def __init__(self):
        self.objects, self.trees, self.results = {}, {}, {}

    def add(self, id, data, tree, what):
        need(hexdigest(data) == id, f"{what}: its bytes have another hash")
        if tree:
            self.trees[id] = parse_tree(data, what)
        else:
            self.objects[id] = len(data)

    def check_trees(self):
        """Every tree that is there names what is there, with the right sums."""
        for id, entries in self.trees.items():
            for name, e in entries.items():
                if e["kind"] in (0, 1):
                    need(self.objects.get(e["id"]) == e["size"], f"tree {id}: {name} is not there with that size")
                elif e["kind"] == 2:
                    need(e["id"] in self.trees, f"tree {id}: the folder {name} is not there")
                    inner = self.trees[e["id"]].values()
                    need(e["size"] == sum(i["size"] for i in inner) and e["files"] == sum(i["files"] for i in inner),
                         f"tree {id}: the sums of {name} are wrong")

    def check_content(self, c, what):
        need(set(c) <= {"id", "dir", "exec", "size", "files"} and "size" in c, f"{what}: {c} is no content")
        if c.get("dir"):
            need(c["id"] in self.trees, f"{what}: the tree {c['id']} is not there")
            inner = self.trees[c["id"]].values()
            need(c["size"] == sum(i["size"] for i in inner) and c.get("files", 0) == sum(i["files"] for i in inner), f"{what}: wrong sums")
        else:
            need(self.objects.get(c["id"]) == c["size"] and c.get("files", 0) == 1, f"{what}: the object {c['id']} is not there with that size")


def by_hash(root, kind):
    for path in sorted(glob.glob(os.path.join(root, kind, "*", "*"))):
        yield os.path.basename(os.path.dirname(path)) + os.path.basename(path), path


# Keys and results

STRING = r'"(?:[^"\\\x00-\x1f]|\\["\\ntrbf]|\\u00[0-9a-f]{2})*"'
HASH = r"[0-9a-f]{64}"
LINES = [("kind", r"[a-z_]+ [0-9]+"), ("setting", f"({STRING}) .*"), ("in", f"({STRING}) (file|exec|dir|some) {HASH}( {STRING})?"),
         ("code", f"({STRING}) (file|exec|dir) {HASH}"), ("tool", f"({STRING}) {HASH}"), ("env", f"({STRING}) {STRING}"), ("out", f"({STRING}) {STRING}")]


def canonical(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def check_description(text, what):
    need(text.endswith("\n"), f"{what}: the description is cut")
    lines = text[:-1].split("\n")
    need(lines[0] == "lpipe key 1", f"{what}: the description begins with {lines[0]!r}")
    order = [word for word, _ in LINES]
    last = (0, b"")
    for line in lines[1:]:
        word, _, rest = line.partition(" ")
        need(word in order, f"{what}: the line {line!r}")
        m = re.fullmatch(LINES[order.index(word)][1], rest)
        need(m, f"{what}: the line {line!r}")
        name = json.loads(m.group(1)).encode() if m.groups() else b""
        need(last < (order.index(word), name) or word == "kind", f"{what}: the line {line!r} is out of order")
        last = (order.index(word), name)
        if word == "setting" and not re.fullmatch(f"sensitive {HASH}", rest[m.end(1) + 1:]):
            value = rest[m.end(1) + 1:]
            need(isinstance(json.loads(value), (int, float)) or "." in value or "e" in value or canonical(json.loads(value)) == value,
                 f"{what}: {value} is not canonical")
    return lines


def parse_result(key, data, what):
    first, _, body = data.partition(b"\n")
    need(first == b"lpipe result 1 " + hexdigest(body).encode(), f"{what}: its first line is {first}")
    second, _, text = body.partition(b"\n")
    need(second == key.encode(), f"{what} is the result of {second}")
    result = json.loads(text)
    need(hexdigest(result["description"].encode()) == key, f"{what}: the key is not the hash of its description")
    check_description(result["description"], what)
    return result


def check_results(store):
    for key, result in store.results.items():
        for name, content in result["outputs"].items():
            store.check_content(content, f"result {key}, output {name}")
        log = result["record"].get("log")
        if log:
            store.check_content(log, f"result {key}, log")


# The cache

def read_cache(root):
    need(read(root, "format") == b"lpipe cache 1\n", "the cache's format")
    store = Store()
    for id, path in by_hash(root, "objects"):
        store.add(id, read(path), False, path)
    for id, path in by_hash(root, "trees"):
        store.add(id, read(path), True, path)
    for key, path in by_hash(root, "results"):
        store.results[key] = parse_result(key, read(path), path)
    store.check_trees()
    check_results(store)
    for path in glob.glob(os.path.join(root, "projects", "*")):
        text = read(path)
        need(text.endswith(b"\n") and hexdigest(text[:-1])[:32] == os.path.basename(path), f"{path} is not the hash of what it holds")
    return store, read_stat(root, store)


def read_stat(root, store):
    data = read(root, "stat")
    need(data[:80] == b"lpipe stat 1\n".ljust(80, b"\0"), "stat does not begin as it must")
    count = 0
    for at in range(80, len(data) - 79, 80):
        record = data[at:at + 80]
        if crc32c(record[:76]) != struct.unpack_from("<I", record, 76)[0]:
            continue  # torn
        inode, size, mtime, ctime = struct.unpack_from("<QQQQ", record, 32)
        id = record[:32].hex()
        need(id not in store.objects or store.objects[id] == size, f"stat: object {id} has another size")
        count += 1
    return count


# A project

def quoted(text):
    escape = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\b": "\\b", "\f": "\\f"}
    return '"' + "".join(escape.get(c) or (c if c >= " " else f"\\u{ord(c):04x}") for c in text) + '"'


def words(c):
    sort = "dir" if c.get("dir") else "exec" if c.get("exec") else "file"
    return f"{c['id']} {sort} {c['size']} {c.get('files', 0)}"


def content_of(record):
    return {k: v for k, v in record.items() if k in ("id", "dir", "exec", "size", "files")}


def check_of(lines):
    return hexdigest("".join(line + "\n" for line in lines).encode())[:16]


def by_bytes(names):
    return sorted(names, key=lambda n: n.encode())


def stage_check(name, s):
    lines = [f"stage {quoted(name)}", f"key {s['key']}", f"kind {quoted(s['kind'])}"]
    lines += [f"{part} {quoted(s[part])}" for part in ("settings", "code", "tools", "env") if part in s]
    lines += [f"in {quoted(n)} {s['in'][n]}" for n in by_bytes(s.get("in", {}))]
    lines += [f"out {quoted(n)} {quoted(s['out'][n]['path'])} {words(s['out'][n])}" for n in by_bytes(s["out"])]
    return check_of(lines)


def source_check(path, s):
    lines = [f"source {quoted(path)} {words(s)}"] + (["stored"] if s.get("stored") else [])
    lines += [f"{part} {quoted(s[part])}" for part in ("pin", "from", "choice") if part in s]
    return check_of(lines)


def once(pairs):
    need(len({k for k, _ in pairs}) == len(pairs), f"a name stands twice among {[k for k, _ in pairs]}")
    return dict(pairs)


def read_lock(path, store):
    lock = json.loads(read(path), object_pairs_hook=once)
    need(set(lock) == {"schema", "sources", "stages"} and lock["schema"] == 2, f"{path}: fields or schema")
    for name, source in lock["sources"].items():
        need(source.get("check") == source_check(name, source), f"{path}: the check of source {name}")
        if source.get("stored"):
            store.check_content(content_of(source), f"{path}, source {name}")
    for name, stage in lock["stages"].items():
        need(stage.get("check") == stage_check(name, stage), f"{path}: the check of stage {name}")
        check_stage(f"{path}, stage {name}", stage, store)
    return lock


def check_stage(what, stage, store):
    """A recorded stage and the result of its key say the same."""
    result = store.results.get(stage["key"])
    need(result, f"{what}: its result is not in the cache")
    need({n: content_of(o) for n, o in stage["out"].items()} == result["outputs"], f"{what}: its outputs are not the result's")
    lines = result["description"].splitlines(True)
    for part, word in (("settings", "setting"), ("code", "code"), ("tools", "tool"), ("env", "env")):
        text = "".join(line for line in lines if line.startswith(word + " "))
        need(stage.get(part) == (hexdigest(text.encode())[:16] if text else None), f"{what}: the digest of its {part}")
    need(f"kind {stage['kind']}\n" in lines, f"{what}: its kind")
    for name, id in stage.get("in", {}).items():
        need(any(re.match(f"in {re.escape(quoted(name))} [a-z]+ {id}", line) for line in lines), f"{what}: input {name}")


def summed_lines(data, what):
    for line in data.split(b"\n"):
        if line:
            need(line[16:17] == b" " and hexdigest(line[17:])[:16].encode() == line[:16], f"{what}: the line {line}")
            yield json.loads(line[17:])


def read_journal(path, store):
    head, _, rest = read(path).partition(b"\n")
    need(head == b"lpipe journal 1", f"{path} begins with {head}")
    count = 0
    for record in summed_lines(rest, path):
        count += 1
        kinds = [k for k in ("stage", "source", "begin") if record.get(k)]
        need(len(kinds) == 1, f"{path}: {record}")
        if kinds == ["stage"]:
            check_stage(f"{path}, stage {record['stage']}", record["done"], store)
    return count


def read_checked_json(path):
    data = read(path)
    m = re.match(rb'\{"check":"([0-9a-f]{16})",', data)
    need(m and hexdigest(b"{" + data[m.end():])[:16].encode() == m.group(1), f"{path}: its check")
    value = json.loads(data)
    need(value["schema"] == 2, f"{path}: its schema")
    return value


def read_state(path):
    b = Bytes(read(path), path)
    need(b.take(8) == b"lpstate\x02", f"{path} does not begin as a state")
    folders = {}
    while b.at + 12 <= len(b.data):
        length, checksum, used = struct.unpack("<III", b.take(12))
        body = b.take(length)
        need(crc32c(body) == checksum, f"{path}: a record with a wrong checksum")
        r = Bytes(body, path)
        name = r.take(struct.unpack("<I", r.take(4))[0])
        r.take(24)
        whole = r.take(1)[0]
        r.take(48)
        count = struct.unpack("<I", r.take(4))[0]
        offsets = struct.unpack(f"<{count}I", r.take(4 * count))
        names = []
        for offset in offsets:
            need(r.at == offset, f"{path}: an offset that leads elsewhere")
            kind, flags = r.take(2)
            names.append(r.take(struct.unpack("<H", r.take(2))[0]))
            if kind == 0:
                r.take(4 * 8 + 2 * 4 + 32)
            elif kind == 1:
                r.take(48)
            elif kind == 2:
                r.take(struct.unpack("<I", r.take(4))[0])
            else:
                need(kind == 3, f"{path}: a name of type {kind}")
        r.end()
        need(names == sorted(names) and whole in (0, 1), f"{path}: names of {name}")
        folders[name] = count
    return sum(folders.values())


def read_project(root, counts):
    store, counts["stat"] = read_cache(os.path.join(root, ".lpipe", "cache"))
    counts.update(objects=len(store.objects), trees=len(store.trees), results=len(store.results))
    locks = glob.glob(os.path.join(root, "pipeline*.lock")) + glob.glob(os.path.join(root, ".lpipe", "exp", "*", "*", "pipeline.lock"))
    counts["stages"] = counts["sources"] = counts["pins"] = counts["journal"] = counts["experiments"] = 0
    for path in locks:
        lock = read_lock(path, store)
        counts["stages"] += len(lock["stages"])
        counts["sources"] += len(lock["sources"])
    at = lambda name: os.path.join(root, ".lpipe", name)
    if os.path.exists(at("pins")):
        for pin in summed_lines(read(at("pins")), "pins"):
            store.check_content(content_of(pin), "pins")
            counts["pins"] += 1
    if os.path.exists(at("journal")):
        counts["journal"] = read_journal(at("journal"), store)
    for path in glob.glob(at("exp/*/experiment.json")):
        experiment = read_checked_json(path)
        for instance in experiment["instances"]:
            record = read_checked_json(os.path.join(os.path.dirname(path), instance, ".lpipe", "record.json"))
            need(record["state"] == "done" and record["instance"] == instance, f"{path}: {instance}")
            counts["experiments"] += 1
    counts["state"] = read_state(at("state"))


# A remote

def read_entries(b):
    entries = []
    for _ in range(b.uvarint()):
        id, tree = b.take(32).hex(), b.take(1)[0]
        need(tree in (0, 1), f"{b.what}: an entry of type {tree}")
        entries.append((id, tree == 1, b.uvarint()))
    return entries


def read_pack(root, name, size, entries, store):
    data = read(root, "packs", name)
    need(len(data) == size and hexdigest(data) == name, f"pack {name}: size or hash")
    need(data[:8] == b"lppack\x00\x01", f"pack {name} does not begin as one")
    length = struct.unpack("<Q", data[-8:])[0]
    table = Bytes(data[len(data) - 8 - length:-8], f"pack {name}")
    need(read_entries(table) == entries, f"pack {name}: its entries are not the index's")
    table.end()
    at = 8
    for id, tree, size in entries:
        store.add(id, data[at:at + size], tree, f"pack {name} at {at}")
        at += size
    need(at == len(data) - 8 - length, f"pack {name}: bytes between objects and entries")


def read_bucket(root, counts):
    store, keys, packs = Store(), set(), set()
    for path in glob.glob(os.path.join(root, "index", "*")):
        data = read(path)
        need(hexdigest(data) == os.path.basename(path), f"{path}: its hash")
        b = Bytes(data, path)
        need(b.take(8) == b"lpindex\x01", f"{path} does not begin as an index")
        for _ in range(b.uvarint()):
            name, size = b.take(32).hex(), b.uvarint()
            entries = read_entries(b)
            if name not in packs:
                read_pack(root, name, size, entries, store)
            packs.add(name)
        for id, tree, size in read_entries(b):
            data = read(root, "objects", id[:2], id[2:])
            need(len(data) == size, f"object {id}: its size")
            store.add(id, data, tree, f"object {id}")
        for _ in range(b.uvarint()):
            keys.add(b.take(32).hex())
        b.end()
    for key, path in by_hash(root, "results"):
        need(key in keys, f"{path}: no index names it")
        store.results[key] = parse_result(key, read(path), path)
    need(set(store.results) == keys, "results that an index names are not there")
    store.check_trees()
    check_results(store)
    counts["remote"] = {"packs": len(packs), "objects": len(store.objects), "trees": len(store.trees), "results": len(store.results)}


def read_tokens(folder, counts):
    """doc/format-data.md, "Token folder": returns the manifest and each sequence's length."""
    manifest = json.loads(read(folder, "manifest.json"))
    need(manifest["format"] == "lpipe-tokens" and manifest["version"] == 1, "a token folder of another format or version")
    files = {}
    for name in ("tokens.bin", "mask.bits", "seq.idx", "rows.jsonl"):
        files[name] = read(folder, name)
        said = manifest["files"][name]
        need(len(files[name]) == said["size"] and hexdigest(files[name]) == said["blake3"], f"{name} is not what the manifest says")
    tokens, sequences = manifest["tokens"], manifest["sequences"]
    need(len(files["tokens.bin"]) == 4 * tokens and len(files["mask.bits"]) == (tokens + 7) // 8, "tokens and mask of another length")
    need(len(files["seq.idx"]) == 24 * sequences, "an index of another length")
    ids = struct.unpack(f"<{tokens}I", files["tokens.bin"])
    need(all(i < manifest["vocab_size"] for i in ids), "an id outside the vocabulary")
    trained = sum(bin(b).count("1") for b in files["mask.bits"])
    need(trained == manifest["trained"], "another number of mask bits than the manifest says")
    need(tokens % 8 == 0 or files["mask.bits"][-1] >> tokens % 8 == 0, "mask bits behind the last token")
    lengths, lines = [], files["rows.jsonl"].split(b"\n")
    need(lines.pop() == b"" and len(lines) == sequences, "another number of rows than sequences")
    token = offset = row = 0
    for entry, line in zip(struct.iter_unpack("<QQII", files["seq.idx"]), lines):
        need(entry[:2] == (token, offset) and entry[2] > 0 and entry[3] >= row, "an entry of seq.idx that is out of place")
        need("id" in json.loads(line), "a row without an id")
        token, offset, row = token + entry[2], offset + len(line) + 1, entry[3]
        lengths.append(entry[2])
    need(token == tokens and max(lengths, default=0) == manifest["longest"], "sequences of other lengths than the manifest says")
    counts["sequences"], counts["tokens"], counts["trained"] = sequences, tokens, trained
    return manifest, lengths


def read_packs(path, manifest, lengths, counts):
    """doc/format-data.md, "Pack index"."""
    data = read(path)
    need(data[:8] == b"lppacks\x01", "a pack index of another format or version")
    capacity, packs, pieces = struct.unpack_from("<QQQ", data, 8)
    need(data[32:64].hex() == manifest["files"]["seq.idx"]["blake3"], "a pack index of another token folder")
    need(not any(data[64:4096]), "a pack index with something behind its header")
    starts = struct.unpack_from(f"<{packs + 1}Q", data, 4096)
    second = (4096 + 8 * (packs + 1) + 4095) // 4096 * 4096
    need(len(data) == second + 12 * pieces and starts[0] == 0 and starts[-1] == pieces, "a pack index of another length")
    taken = set()
    for first, behind in zip(starts, starts[1:]):
        need(first < behind, "an empty pack")
        total = 0
        for sequence, start, count in struct.iter_unpack("<III", data[second + 12 * first : second + 12 * behind]):
            need(count > 0 and start + count <= lengths[sequence] and (sequence, start) not in taken, "a piece that is none, or twice there")
            taken.add((sequence, start))
            total += count
        need(total <= capacity, "a pack that is too long")
    counts["packs"], counts["pieces"] = packs, pieces


def main():
    counts = {}
    try:
        if sys.argv[1] == "--tokens":
            folder = read_tokens(sys.argv[2], counts)
            if len(sys.argv) > 3:
                read_packs(sys.argv[3], *folder, counts)
        else:
            read_project(sys.argv[1], counts)
            if len(sys.argv) > 2:
                read_bucket(sys.argv[2], counts)
    except Wrong as problem:
        print(f"not as documented: {problem}", file=sys.stderr)
        return 1
    print(json.dumps(counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
