"""Experts that cannot be read are refused in a sentence."""

from typing import Any

import pytest

from analysis.errors import ExpertError
from analysis.super_experts.profiling import profile_batch
from tests.analysis.moe import moe, windows


def test_quantised_experts_are_refused() -> None:
    loaded = moe("mixtral")
    loaded.model.is_quantized = True
    with pytest.raises(ExpertError, match=r"quantised.*open the original model"):
        profile_batch(loaded, windows())


def test_experts_spread_over_processes_are_refused() -> None:
    loaded = moe("mixtral")
    module: Any = loaded.model.get_submodule(loaded.anatomy.blocks[0].module)
    module._is_expert_parallel = True
    with pytest.raises(ExpertError, match="spread over several processes"):
        profile_batch(loaded, windows())
