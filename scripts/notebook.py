"""The executed notebook: docs/notebook.ipynb from docs/notebook.py, whose cells begin with `# %%`.

Each cell runs in this process; its last expression is shown as Jupyter shows it: a plotly chart as its JSON,
without plotly's library, a table as HTML.
"""

from __future__ import annotations

import ast
import io
import json
import re
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.examples import ROOT, own_database

SOURCE, TARGET = ROOT / "docs" / "notebook.py", ROOT / "docs" / "notebook.ipynb"
MOST_BYTES = 300_000
_MARKER = re.compile(r"^# %%(?P<kind> \[markdown\])?\n", re.M)
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


@dataclass(frozen=True)
class Cell:
    """One cell: whether it is code, and its text."""

    code: bool
    text: str


def read_cells(source: str) -> list[Cell]:
    """The cells of a script; the comment signs of Markdown are taken off."""
    starts = list(_MARKER.finditer(source))
    ends = [*(one.start() for one in starts[1:]), len(source)]
    cells = []
    for start, end in zip(starts, ends, strict=True):
        text = source[start.end() : end].strip("\n")
        if start["kind"]:
            text = re.sub(r"^# ?", "", text, flags=re.M)
        cells.append(Cell(not start["kind"], text))
    return cells


def execute(cells: list[Cell]) -> dict[str, Any]:
    """The notebook of these cells, in nbformat 4. Raises what a cell raises."""
    space: dict[str, Any] = {"__name__": "__main__"}
    made = [_write_cell(cell, number, space) for number, cell in enumerate(cells, 1)]
    return {"cells": made, "metadata": KERNEL, "nbformat": 4, "nbformat_minor": 5}


def write_notebook() -> None:
    """Execute the cells with a database of their own. Raises ValueError if the file becomes too large."""
    with own_database():
        text = json.dumps(execute(read_cells(SOURCE.read_text("utf-8"))), indent=1, ensure_ascii=False) + "\n"
    if len(text.encode()) > MOST_BYTES:
        raise ValueError(f"{TARGET.name} would have {len(text):,} bytes; show less, at most {MOST_BYTES:,}")
    TARGET.write_text(text, encoding="utf-8")


def is_stale(target: Path = TARGET) -> bool:
    """Whether the notebook's cells are not those of the script."""
    shown = json.loads(target.read_text("utf-8"))["cells"]
    kept = [Cell(cell["cell_type"] == "code", "".join(cell["source"])) for cell in shown]
    return kept != read_cells(SOURCE.read_text("utf-8"))


def _write_cell(cell: Cell, number: int, space: dict[str, Any]) -> dict[str, Any]:
    shared = {"id": f"cell-{number}", "metadata": {}, "source": cell.text.splitlines(keepends=True)}
    if not cell.code:
        return {"cell_type": "markdown", **shared}
    return {
        "cell_type": "code",
        "execution_count": number,
        **shared,
        "outputs": _run(cell.text, number, space),
    }


def _run(text: str, number: int, space: dict[str, Any]) -> list[dict[str, Any]]:
    """Run a cell: what it printed, then what its last expression is."""
    tree, printed, value = ast.parse(text), io.StringIO(), None
    last = tree.body[-1]
    with redirect_stdout(printed), redirect_stderr(io.StringIO()):
        if isinstance(last, ast.Expr):
            exec(compile(ast.Module(tree.body[:-1], []), "<cell>", "exec"), space)
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), space)
        else:
            exec(compile(tree, "<cell>", "exec"), space)
    outputs: list[dict[str, Any]] = []
    if lines := printed.getvalue().splitlines(keepends=True):
        outputs.append({"output_type": "stream", "name": "stdout", "text": lines})
    if value is not None:
        shown = {"execution_count": number, "metadata": {}, "data": show(value)}
        outputs.append({"output_type": "execute_result", **shown})
    return outputs


def show(value: Any) -> dict[str, Any]:
    """A value as Jupyter keeps it, by MIME type."""
    if hasattr(value, "to_plotly_json"):
        chart = json.loads(value.to_json())
        chart["layout"].pop("template", None)
        return {"application/vnd.plotly.v1+json": chart, "text/plain": ["a plotly chart"]}
    data: dict[str, Any] = {"text/plain": repr(value).splitlines(keepends=True)}
    if hasattr(value, "_repr_html_"):
        data["text/html"] = value._repr_html_().splitlines(keepends=True)
    return data
