"""Reads what the stage export wrote, each folder with the library that it is for, and prints the sequences as JSON lines:
{"ids", "trained" (targets), and where the format has them "id", "answer", "positions"}.

    python read.py FORMAT FOLDER
"""

import json
import os
import struct
import sys


def hugging_face(rows):
    for row in rows:
        trained = [int(label != -100) for label in row["labels"]]
        assert all(label in (-100, token) for label, token in zip(row["labels"], row["input_ids"]))
        yield {"ids": row["input_ids"], "trained": trained, "id": row["id"], "answer": row["answer"]}


def parquet(folder):
    import pyarrow.parquet

    return hugging_face(pyarrow.parquet.read_table(folder).to_pylist())


def arrow(folder):
    import datasets

    return hugging_face(datasets.load_from_disk(folder))


def indexed(path):
    """Megatron's own reader where it is installed, else its format as megatron/core/datasets/indexed_dataset.py describes it."""
    try:
        from megatron.core.datasets.indexed_dataset import IndexedDataset

        print("megatron", file=sys.stderr)
        data = IndexedDataset(path)
        return [data[i].tolist() for i in range(len(data))]
    except ImportError:
        import numpy

        head = open(path + ".idx", "rb").read()
        assert head[:9] == b"MMIDIDX\x00\x00" and struct.unpack("<Q", head[9:17]) == (1,)
        kind = {1: numpy.uint8, 4: numpy.int32}[head[17]]
        sequences, documents = struct.unpack("<QQ", head[18:34])
        lengths = numpy.frombuffer(head, numpy.int32, sequences, 34)
        offsets = numpy.frombuffer(head, numpy.int64, sequences, 34 + lengths.nbytes)
        firsts = numpy.frombuffer(head, numpy.int64, documents, 34 + lengths.nbytes + offsets.nbytes)
        assert list(firsts) == list(range(sequences + 1)) and 34 + lengths.nbytes + offsets.nbytes + firsts.nbytes == len(head)
        raw = open(path + ".bin", "rb").read()
        return [numpy.frombuffer(raw, kind, n, at).tolist() for n, at in zip(lengths, offsets)]


def megatron(folder):
    for ids, mask in zip(indexed(os.path.join(folder, "tokens")), indexed(os.path.join(folder, "mask"))):
        yield {"ids": ids, "trained": mask}


def bin_tok(folder):
    """As llmq and surogate describe the file: the mask of an input is about the token behind it."""
    import numpy

    for name in sorted(os.listdir(folder)):
        raw = open(os.path.join(folder, name), "rb").read()
        version, width, n, vocabulary, masks, apart = struct.unpack("<6i", raw[8:32])
        assert raw[:8] == b"BIN.TOK\n" and (version, width, masks, apart) == (3, 4, 1, 1)
        tokens = numpy.frombuffer(raw, numpy.int32, n, 1024)
        positions = numpy.frombuffer(raw, numpy.int32, n, 1024 + 4 * n)
        bits = numpy.unpackbits(numpy.frombuffer(raw, numpy.uint8, (n + 7) // 8, 1024 + 8 * n), bitorder="little")[:n]
        assert len(raw) == 1024 + 8 * n + (n + 7) // 8 and tokens.max() < vocabulary
        starts = [i for i in range(n) if positions[i] == 0] + [n]
        for start, end in zip(starts, starts[1:]):
            assert positions[start:end].tolist() == list(range(end - start))
            yield {"ids": tokens[start:end].tolist(), "trained": [0] + bits[start : end - 1].tolist()}


for sequence in {"parquet": parquet, "arrow": arrow, "megatron": megatron, "bin.tok": bin_tok}[sys.argv[1]](sys.argv[2]):
    print(json.dumps(sequence))
