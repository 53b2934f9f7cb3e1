"""Models built without weights: every parameter has a shape and no numbers; buffers are real."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from transformers import PreTrainedModel

from analysis.errors import NotAModel, first_line

DEFAULT_DTYPE = threading.RLock()
"""Held while transformers builds a model, for which it sets the process's default dtype and then puts back
the one it found: two at once could leave the process with the other's.
"""


def build_empty(build: Callable[[], PreTrainedModel], config: Any) -> PreTrainedModel:
    """What `build` makes of a config, without weights. Raises NotAModel if impossible."""
    _building.empty = True
    try:
        with DEFAULT_DTYPE:
            model = build()
    except Exception as error:  # each family refuses a config in its own way
        path = Path(config.name_or_path)
        source = path if path.is_file() else path / "config.json"
        raise NotAModel(f"no model can be built from {source}: {first_line(error)}") from error
    finally:
        _building.empty = False
    model.tie_weights()
    return model.eval().requires_grad_(False)


_building = threading.local()
"""Whether this thread builds a model without weights; other threads may be loading one."""


def _without_weights(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
    if parameter is None or parameter.is_meta or not getattr(_building, "empty", False):
        return None
    return nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)


register_module_parameter_registration_hook(_without_weights)  # type: ignore[arg-type]
