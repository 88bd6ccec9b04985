"""Writes the files of this folder with pyarrow: what TestFilesOfPyarrow reads. All text here is our own.

    pip install pyarrow==26.0.1
    python stages/testdata/pyarrow/make.py
"""

import datetime
import decimal
import pathlib
import sys

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

here = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else __file__).resolve()
here = here if here.is_dir() else here.parent

turn = pa.struct([("content", pa.string()), ("role", pa.string())])
think = "<think>\nHalf of %d is %d.\n</think>\n\nSo it is \\boxed{%d}."


def v1():
    """The schema of R1-Distill-SFT's config v1: the answers twice, two columns of type null."""
    rows = []
    for i in range(1, 8):
        question = f"What is half of {2 * i}? – “{'é' * i}”"
        answer = think % (2 * i, i, i)
        rows.append({
            "id": f"id-{i}", "reannotated_assistant_content": answer, "source": "halves" if i % 2 else None,
            "reannotated_messages": [{"content": question, "role": "user"}, {"content": answer, "role": "assistant"}],
            "messages": [{"content": question, "role": "user"}, {"content": f"\\boxed{{{i}}}", "role": "assistant"}],
            "source_dataset": "ours", "verified": None, "quality_metrics": None,
        })
    rows[2]["messages"] = None  # no reference
    rows[3]["messages"] = []
    rows[4]["reannotated_messages"] = []  # a row that nothing can be made of
    rows[5]["reannotated_messages"][1] = {"content": None, "role": "assistant"}
    rows[5]["reannotated_assistant_content"] = None
    return pa.Table.from_pylist(rows, schema=pa.schema([
        ("id", pa.string()), ("reannotated_assistant_content", pa.string()), ("source", pa.string()),
        ("reannotated_messages", pa.list_(turn)), ("messages", pa.list_(turn)), ("source_dataset", pa.string()),
        ("verified", pa.null()), ("quality_metrics", pa.null()),
    ]))


def v0():
    rows = [{
        "id": f"id-{i}", "reannotated_assistant_content": think % (2 * i, i, i), "problem": f"Half of {2 * i}?",
        "source": "halves", "solution": f"It is \\boxed{{{i}}}" if i != 2 else None, "verified": None, "quality_metrics": None,
    } for i in range(1, 6)]
    return pa.Table.from_pylist(rows, schema=pa.schema([
        (name, pa.null() if name in ("verified", "quality_metrics") else pa.string()) for name in rows[0]]))


def wide(table):
    """The same rows in Arrow's other types of text and list."""
    text = pa.large_string()
    swap = lambda t: text if pa.types.is_string(t) else pa.large_list(pa.struct([("content", text), ("role", text)])) if pa.types.is_list(t) else t
    return table.cast(pa.schema([(f.name, swap(f.type)) for f in table.schema]))


def kinds():
    """A row of every type that a column to keep may have, and a row of nulls."""
    columns = {
        "prompt": pa.array(["Which day?", "No day?"]),
        "response": pa.array(["That one.", "None."]).dictionary_encode(),
        "bool": pa.array([True, None]),
        "int8": pa.array([-8, None], pa.int8()),
        "uint32": pa.array([2**32 - 1, None], pa.uint32()),
        "uint64": pa.array([2**64 - 1, None], pa.uint64()),
        "half": pa.array([0.5, None], pa.float16()),
        "float": pa.array([0.1, None], pa.float32()),
        "double": pa.array([0.1, None], pa.float64()),
        "date": pa.array([datetime.date(2025, 2, 3), None]),
        "seconds": pa.array([datetime.datetime(2025, 2, 3, 4, 5, 6), None], pa.timestamp("s")),
        "micros": pa.array([datetime.datetime(1969, 12, 31, 23, 59, 59, 500000), None], pa.timestamp("us", "UTC")),
        "nanos": pa.array([1738555506123456789, None], pa.timestamp("ns")),
        "time": pa.array([datetime.time(4, 5, 6, 7000), None], pa.time64("us")),
        "decimal": pa.array([decimal.Decimal("-12.345"), None], pa.decimal128(9, 3)),
        "wide": pa.array([decimal.Decimal("12345678901234567890.05"), None], pa.decimal128(38, 2)),
        "binary": pa.array([b"plain", None]),
        "map": pa.array([[("a", 1), ("b", None)], None], pa.map_(pa.string(), pa.int64())),
        "nested": pa.array([[[1, 2], [], None, [3]], None], pa.list_(pa.list_(pa.int64()))),
        "struct": pa.array([{"x": {"y": "z"}, "n": None}, None], pa.struct([("x", pa.struct([("y", pa.string())])), ("n", pa.null())])),
    }
    return pa.table(columns)


def main():
    one, zero = v1(), v0()
    for codec in ("none", "snappy", "gzip", "zstd", "brotli", "lz4"):
        pq.write_table(one, here / f"v1-{codec}.parquet", compression=codec, row_group_size=3)
    pq.write_table(one, here / "v1-pages2.parquet", data_page_version="2.0", data_page_size=64, use_dictionary=False, write_page_index=True, write_page_checksum=True, write_batch_size=2)
    pq.write_table(one, here / "v1-delta.parquet", use_dictionary=False, column_encoding={"id": "DELTA_BYTE_ARRAY", "source": "DELTA_LENGTH_BYTE_ARRAY"})
    pq.write_table(one, here / "v1-items.parquet", use_compliant_nested_type=False, store_schema=False)
    pq.write_table(wide(one), here / "v1-large.parquet")
    pq.write_table(zero, here / "v0-zstd.parquet", compression="zstd")
    pq.write_table(zero.slice(0, 0), here / "v0-norows.parquet")
    pacsv.write_csv(zero.drop_columns(["verified", "quality_metrics"]), here / "v0.csv")
    pq.write_table(kinds(), here / "kinds.parquet")
    pq.write_table(kinds().select(["prompt", "response", "seconds"]), here / "int96.parquet", use_deprecated_int96_timestamps=True)
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"]), pa.array(["c"])], names=["prompt", "prompt", "response"])
    pq.write_table(twice, here / "twice.parquet")


main()
