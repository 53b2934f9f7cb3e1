"""A damaged checkpoint in the app: a sentence says what is wrong, however it is opened."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.pages.reading import shown
from tests.pages.shared.from_disk_made import DISK
from tests.workbench.cli.bad_files_made import AGAIN, DAMAGES


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_told_and_shows_nothing(
    bare_app: Callable[..., AppTest], tiny_model_folder: Path, tmp_path: Path, damage: str
) -> None:
    folder = Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))
    spoil, says = DAMAGES[damage]
    spoil(folder)
    for weights in ({}, DISK):
        app = bare_app("/neurons", model=str(folder), **weights)
        assert not app.exception
        assert not app.dataframe
        [told] = [line for line in shown(app).splitlines() if says in line]
        assert AGAIN in told
