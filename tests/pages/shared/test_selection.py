"""What is chosen in tables and charts, read from Streamlit's state of them."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.util import AttributeDictionary

from pages.shared.layout import read_pressed_row, read_selection


@pytest.mark.parametrize(
    ("chosen", "row"),
    [
        ({"rows": [3], "columns": [], "cells": []}, 3),
        ({"rows": [], "columns": [], "cells": [(2, "P"), (4, "KL")]}, 2),
        ({"rows": [], "columns": [], "cells": []}, None),
    ],
)
def test_a_row_is_chosen_by_itself_or_by_one_of_its_cells(chosen: dict[str, Any], row: int | None) -> None:
    assert read_selection(AttributeDictionary(selection=chosen)).row == row


@pytest.mark.parametrize(
    ("points", "datum"),
    [
        ([{"x": 1.0, "customdata": ["L1.N3", 2]}, {"customdata": ["L1.N4"]}], "L1.N3"),
        ([{"x": 1.0, "customdata": "L1.N3"}], "L1.N3"),
        ([{"x": 1.0, "customdata": [0]}], 0),
        ([{"x": 1.0}], None),
        ([], None),
    ],
)
def test_a_point_is_known_by_the_first_of_its_own_data(points: list[dict[str, Any]], datum: object) -> None:
    assert read_selection(AttributeDictionary(selection={"points": points, "box": []})).datum == datum


def test_a_pressed_button_is_known_by_its_row() -> None:
    assert read_pressed_row(AttributeDictionary(row=4, column="address")) == 4


@pytest.mark.parametrize("widget", [None, object(), {}, {"selection": None}, {"row": "x"}])
def test_without_a_choice_nothing_is_chosen(widget: object) -> None:
    assert (read_selection(widget).row, read_selection(widget).datum) == (None, None)
    assert read_pressed_row(widget) is None
