"""The table of formats in docs/models.md: every row is what its checks give now."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.contract.expectations import Broken
from tests.contract.formats import (
    BEGIN,
    END,
    FormatRow,
    check_disk,
    check_format,
    check_opening,
    check_running,
    list_formats,
    open_format,
    replace_section,
    tell_result,
    write_format,
    write_section,
)

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


@pytest.mark.parametrize("name", list_formats())
def test_the_row_in_the_docs_is_what_the_checks_give(name: str) -> None:
    row = check_format(name)
    assert "no:" not in str(row)
    assert f"\n{row}\n" in PAGE.read_text(encoding="utf-8"), "run python -m tests.contract formats"


def test_the_table_in_the_docs_lists_these_formats() -> None:
    section = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    listed = [line.split(" | ") for line in section.strip().splitlines()[2:]]
    assert [f"{cells[0].removeprefix('| ')}, {cells[6]}" for cells in listed] == list(list_formats())


def test_what_fails_is_in_the_row(tmp_path: Path) -> None:
    case = open_format(write_format("FP8 in blocks, Llama", tmp_path))
    name = "model.layers.0.mlp.up_proj.weight"
    parameter = case.loaded["float32"].model.get_parameter(name)
    parameter.data = parameter.data * 1.5
    for check, what in ((check_opening, name), (check_running, "logits"), (check_disk, name)):
        with pytest.raises(Broken, match=what):
            check(case)
        assert tell_result(check, case) == f"no: {what} differ{'' if what == 'logits' else 's'} in float32"
    assert torch.equal(case.streamed["float32"].parameters[name] * 1.5, parameter)


def test_only_the_table_is_replaced() -> None:
    row = FormatRow("FP8, Llama", "yes", "yes", "yes", "yes", "yes", "transformers")
    section = write_section([row])
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert replace_section(page, section) == f"before\n{section}\nafter\n"
    assert str(row) == "| FP8 | yes | yes | yes | yes | yes | Llama | transformers |"
