"""The model card of a saved model: what it was made of, what differs, and how that was checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.checkpoints.sources import split_adapter
from analysis.opening.models import LoadedModel
from analysis.recipes.recipes import versions

if TYPE_CHECKING:
    from workbench.saving.saving import SavedModel

MOST = 50
"""Changes listed one by one."""


def write_card(loaded: LoadedModel, saved: SavedModel, described: Sequence[str]) -> str:
    """The card as Markdown. described: every change, in words."""
    name = _plain("+".join(Path(part).name if Path(part).exists() else part for part in _parts(loaded)))
    rows = [f"| `{_plain(c.tensor)}` | {c.rows:,} | {c.cosine:.6f} |" for c in saved.changed]
    more = len(described) - MOST
    changes = [f"- `{_plain(text)}`" for text in described[:MOST]] + [f"- and {more:,} more"] * (more > 0)
    untied = (
        "\nThe output head of the original is its input embedding. A row of the head changed, so the two are "
        "separate here (`tie_word_embeddings: false`) and the embedding is as it was.\n"
        if saved.untied
        else ""
    )
    rounding = (
        ""
        if loaded.dtype == "float32"
        else f"In {loaded.dtype} rounding alone does as much; the weights were compared bit for bit.\n"
    )
    used = ", ".join(f"{name} {versions()[name]}" for name in ("headlamp", "torch", "transformers"))
    return f"""---
library_name: transformers
tags: [headlamp, edited]
---

# An edited copy of `{name}`

Made by Headlamp from `{name}` (fingerprint
`{loaded.fingerprint}`), in {loaded.dtype}.

## What was changed

{chr(10).join(changes)}
{untied}
## What differs from the original

| parameter | rows that differ | cosine of old and new |
| --- | --- | --- |
{chr(10).join(rows)}

All other parameters are equal, bit for bit.

## How that was checked

Opened again by `AutoModelForCausalLM.from_pretrained`, on {saved.positions} tokens: the largest difference
of a logit from the changed model in Headlamp is {saved.logits_error:.1e} of the largest logit; the change
itself moves logits by up to {saved.effect:.1e} of it. What it does on other text was not checked here.
{rounding}
`headlamp_recipe.json` holds the changes themselves. Versions: {used}.
"""


def _parts(loaded: LoadedModel) -> list[str]:
    """The model's name, and its adapter's."""
    return [part for part in split_adapter(loaded.ref.name) if part is not None]


def _plain(text: str) -> str:
    """Text that ends no code span and begins no line."""
    return " ".join(text.replace("`", "'").split())
