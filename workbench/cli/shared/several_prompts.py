"""`generate` with several prompts: reading them, a pair for each, and their table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel
from store import Store
from workbench.cli.shared.output import format_number, format_table, say
from workbench.cli.shared.session import read_text, show_bar
from workbench.findings.pair_evidence import list_outputs
from workbench.generating.clamping import Generation
from workbench.generating.prompt_files import PromptLine, parse_prompts
from workbench.generating.requests import GenerationRequest
from workbench.generating.several import WordMean, generate_pairs
from workbench.levers.random_clamps import RandomClamps


def read_prompts(prompts: Sequence[str], path: Path | None, keep: str | None) -> tuple[PromptLine, ...]:
    """The prompts of a file, or several given; none where there is one --prompt.

    Raises HeadlampError for both or neither, and for a finding of several.
    """
    if bool(prompts) == (path is not None):
        raise HeadlampError("generate needs either --prompt TEXT or --prompts FILE.jsonl; give one of them")
    if len(prompts) == 1:
        return ()
    if keep is not None:
        raise HeadlampError("a finding holds one pair of texts; leave out --keep, or give one --prompt")
    return tuple(map(PromptLine, prompts)) if path is None else parse_prompts(read_text(path), path.name)


def generate_several(
    loaded: LoadedModel, store: Store, lines: Sequence[PromptLine], common: GenerationRequest, name: str
) -> list[Generation]:
    """A pair for each prompt, with a bar; what could not be stored is said."""
    with show_bar("generating") as bar:
        found = list(generate_pairs(loaded, store, lines, common, name, bar))
    for warning in dict.fromkeys(pair.warning for pair in found if pair.warning):
        say(f"Warning: {warning}")
    return found


def list_several(
    found: Sequence[Generation],
    lines: Sequence[PromptLine],
    seed: int,
    mean: WordMean | None,
    controls: RandomClamps | None,
) -> dict[str, Any]:
    """As `generate --json` prints it for several prompts."""
    return {
        "seed": seed,
        "prompts": [
            {"prompt": line.prompt, "answer_prefix": pair.request.answer_prefix, "split": line.split}
            | list_outputs(pair)
            for line, pair in zip(lines, found, strict=True)
        ],
        "word": mean and mean.to_document() | {"controls": controls and controls.to_document()},
    }


def format_several(
    found: Sequence[Generation],
    lines: Sequence[PromptLine],
    mean: WordMean | None,
    controls: RandomClamps | None,
) -> str:
    """A row for each prompt, then the mean of P(word), and what random neurons give."""
    rows = [
        (
            _cut(line.prompt),
            line.split,
            *((format_number(p) for p in pair.word) if pair.word else ("–", "–")),
            _cut(pair.base_text),
            _cut(pair.changed_text),
        )
        for line, pair in zip(lines, found, strict=True)
    ]
    columns = ("prompt", "split", "P base", "P changed", "base", "changed")
    parts = [format_table(columns, rows)]
    if mean is not None:
        said = [_format_mean(mean, at) for at in range(3)]
        parts.append(f"mean P(word) of {mean.n}: {said[0]} base, {said[1]} changed, {said[2]} difference")
    if controls is not None:
        largest, n = format_number(controls.means[0]), len(controls.means)
        parts.append(f"{n} sets of random neurons at the same values: largest mean P(word) {largest}")
    return "\n\n".join(parts)


def _format_mean(mean: WordMean, at: int) -> str:
    """Mean `at` (base, changed, change) with its interval, where it has one."""
    value = format_number((mean.base, mean.changed, mean.change)[at])
    if mean.intervals is None:
        return value
    low, high = mean.intervals[at]
    return f"{value} [{format_number(low)}, {format_number(high)}]"


def _cut(text: str, longest: int = 32) -> str:
    """A text's beginning, in one line."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
