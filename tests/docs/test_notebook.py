"""The executed notebook: made of its script, small, and shown as Jupyter shows it."""

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.notebook import MOST_BYTES, TARGET, Cell, execute, is_stale, read_cells

CHART = "application/vnd.plotly.v1+json"
SCRIPT = """# %% [markdown]
# # Title
#
# A text.

# %%
a = 2
print("said")
a + 1

# %%
b = a
"""


def outputs() -> list[dict[str, Any]]:
    cells = json.loads(TARGET.read_text("utf-8"))["cells"]
    return [output for cell in cells for output in cell.get("outputs", ())]


def test_cells_are_read() -> None:
    first, second, third = read_cells(SCRIPT)
    assert first == Cell(False, "# Title\n\nA text.")
    assert second == Cell(True, 'a = 2\nprint("said")\na + 1')
    assert third == Cell(True, "b = a")


def test_a_cell_shows_what_it_prints_and_ends_with() -> None:
    _, shown, silent = execute(read_cells(SCRIPT))["cells"]
    assert [one["output_type"] for one in shown["outputs"]] == ["stream", "execute_result"]
    assert shown["outputs"][0]["text"] == ["said\n"]
    assert shown["outputs"][1]["data"] == {"text/plain": ["3"]}
    assert silent["outputs"] == []


def test_an_error_in_a_cell_makes_no_notebook() -> None:
    with pytest.raises(ZeroDivisionError):
        execute([Cell(True, "1 / 0")])


def test_the_notebook_is_made_of_its_script(tmp_path: Path) -> None:
    assert not is_stale()
    changed = json.loads(TARGET.read_text("utf-8"))
    changed["cells"][1]["source"].append("\n# more")
    (tmp_path / "changed.ipynb").write_text(json.dumps(changed), encoding="utf-8")
    assert is_stale(tmp_path / "changed.ipynb")


def test_the_notebook_is_small_and_shows_charts_tables_and_words() -> None:
    assert TARGET.stat().st_size < MOST_BYTES
    data = [output["data"] for output in outputs() if output["output_type"] == "execute_result"]
    assert sum(CHART in one for one in data) >= 5
    assert sum("text/html" in one for one in data) >= 3
    assert all(one[CHART]["data"] for one in data if CHART in one)
    assert {output["output_type"] for output in outputs()} == {"stream", "execute_result"}
