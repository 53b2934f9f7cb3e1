"""Export of a decoding, one row per neuron: JSON lines, CSV or Parquet; complete or not at all.

jsonl     every number exactly; one ASCII JSON document a line
csv       token and probability columns; text that a spreadsheet would run as a formula begins with '
parquet   the fields of the JSON lines, typed; one row group per block
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.opening.models import LoadedModel
from store.csv_cells import write_csv
from workbench.files import ExportError, check_writable, replace_file, table_csv
from workbench.neurons.decoding import DecodedModel
from workbench.neurons.rows import SHAPE, DecodedNeuron, read_rows
from workbench.runs import Progress

Row = dict[str, Any]
_NUMBERS = ("weight_norm", "log_z", "entropy", *SHAPE)
_TOKENS = pa.list_(
    pa.struct(
        [
            ("token_id", pa.int32()),
            ("token", pa.string()),
            ("logit", pa.float32()),
            ("probability", pa.float64()),
        ]
    )
)
SCHEMA = pa.schema(
    [
        pa.field("layer", pa.int32(), nullable=False),
        pa.field("expert", pa.int32()),
        pa.field("shared", pa.bool_(), nullable=False),
        pa.field("neuron", pa.int32(), nullable=False),
        pa.field("top", _TOKENS),
        pa.field("bottom", _TOKENS),
        *(pa.field(name, pa.float32()) for name in _NUMBERS),
    ]
)


def write_decoding(
    path: Path, loaded: LoadedModel, decoded: DecodedModel, progress: Progress = lambda done, total: None
) -> int:
    """Write every neuron of a decoding to path, in its suffix's format; returns the count. Raises
    ExportError.
    """
    write = _writer(path)
    with replace_file(path) as stream:
        write(stream, _by_block(loaded, decoded, progress), decoded.top_ids.shape[1])
    return len(decoded)


def check_target(path: Path) -> None:
    """Refuse an impossible export of a decoding before hours of work. Raises ExportError."""
    _writer(path)
    check_writable(path)


def neuron_row(neuron: DecodedNeuron) -> Row:
    """One neuron as a JSON line; a number that JSON cannot hold is None."""
    block = neuron.address.block
    return {
        "layer": block.layer,
        "expert": block.expert,
        "shared": block.shared,
        "neuron": neuron.address.neuron,
        "top": [_finite(asdict(score)) for score in neuron.top],
        "bottom": [_finite(asdict(score)) for score in neuron.bottom],
        **_finite({name: getattr(neuron, name) for name in _NUMBERS}),
    }


def neurons_csv(neurons: Iterable[DecodedNeuron], k: int) -> bytes:
    """Decoded neurons with k tokens at each end, in the CSV format of a whole decoding."""
    return table_csv(_csv_header(k), map(_csv_row, map(neuron_row, neurons)))


def _finite(numbers: Row) -> Row:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in numbers.items()
    }


def _by_block(loaded: LoadedModel, decoded: DecodedModel, progress: Progress) -> Iterator[list[Row]]:
    for number, block in enumerate(decoded.blocks):
        progress(number, len(decoded.blocks))
        first = int(decoded.first[number])
        yield [neuron_row(neuron) for neuron in read_rows(loaded, decoded, range(first, first + block.d_ff))]
    progress(len(decoded.blocks), len(decoded.blocks))


def _write_jsonl(stream: BinaryIO, blocks: Iterator[list[Row]], k: int) -> None:
    for block in blocks:
        stream.writelines(json.dumps(row, allow_nan=False).encode("ascii") + b"\n" for row in block)


def _write_csv(stream: BinaryIO, blocks: Iterator[list[Row]], k: int) -> None:
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
    write_csv(text, _csv_header(k), (_csv_row(row) for block in blocks for row in block))
    text.detach()


_CSV_TOKEN = ("token", "probability")


def _csv_header(k: int) -> list[str]:
    ends = [f"{end}_{what}_{i + 1}" for end in ("top", "bottom") for i in range(k) for what in _CSV_TOKEN]
    return ["layer", "expert", "shared", "neuron", *ends, *_NUMBERS]


def _csv_row(row: Row) -> list[Any]:
    scores = [score for end in ("top", "bottom") for score in row[end]]
    return [
        *(row[name] for name in ("layer", "expert", "shared", "neuron")),
        *(value for score in scores for value in (score["token"], score["probability"])),
        *(row[name] for name in _NUMBERS),
    ]


def _write_parquet(stream: BinaryIO, blocks: Iterator[list[Row]], k: int) -> None:
    with pq.ParquetWriter(stream, SCHEMA, compression="zstd") as writer:
        for block in blocks:
            writer.write_table(pa.Table.from_pylist(block, schema=SCHEMA), row_group_size=len(block))


Write = Callable[[BinaryIO, Iterator[list[Row]], int], None]
WRITERS: dict[str, Write] = {".jsonl": _write_jsonl, ".csv": _write_csv, ".parquet": _write_parquet}


def _writer(path: Path) -> Write:
    if path.suffix.lower() not in WRITERS:
        raise ExportError(f"{path}: unknown file format; end its name in {', '.join(WRITERS)}")
    return WRITERS[path.suffix.lower()]
