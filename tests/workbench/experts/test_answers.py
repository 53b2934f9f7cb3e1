"""Documents of profiles: the rows worth a look, and the windows in words."""

from __future__ import annotations

import pytest

from analysis.super_experts.criterion import Criterion
from analysis.super_experts.profile import BlockFormation
from analysis.super_experts.verdict import find_super_experts
from tests.analysis.super_experts.profiles_made import made_profile
from workbench.experts.answers import WindowsRead, list_judged_rows

SIZES = {f"L{layer}.E{expert}": 1.0 + expert / 8 for layer in range(4) for expert in range(8)}


def test_what_forms_a_massive_activation_is_listed_by_either_rule() -> None:
    forming = {"L1.E0": BlockFormation(formed=2, share=0.9)}
    made = made_profile(SIZES | {"L2.E3": 50.0}, massive=(1,), forming=forming)
    by_size = list_judged_rows(made, find_super_experts(made, Criterion(rule="percentile")))
    assert [(str(row.block.address), said) for row, said in by_size] == [
        ("L2.E3", "fails layers"), ("L1.E0", "forms"),
    ]  # fmt: skip
    by_forms = list_judged_rows(made, find_super_experts(made))
    assert [(str(row.block.address), said) for row, said in by_forms] == [
        ("L1.E0", "super"), ("L2.E3", "fails forms"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("count", "length", "begins", "bos", "said"),
    [
        (1, 963, "Once", False, "1 window of at most 963 tokens, no token before them"),
        (30, 2048, "<s>", True, "30 windows of at most 2,048 tokens, each behind <s>"),
    ],
)
def test_windows_are_told_with_the_token_before_them(
    count: int, length: int, begins: str, bos: bool, said: str
) -> None:
    assert str(WindowsRead(count, length, begins, bos)) == said
