"""Questions as the command line makes them of what is typed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.errors import RecipeError, TextError
from analysis.levers.grids import parse_values
from analysis.opening.models import LoadedModel
from analysis.reading.word_kinds import find_word_kind
from analysis.recipes.recipes import read_recipe as parse_recipe
from analysis.running.conversations import Conversation
from analysis.saving.baking import why_not_baked
from analysis.super_experts.controls import parse_parts
from analysis.super_experts.criterion import Criterion
from analysis.super_experts.verdict import choose_super_parts, find_super_experts
from headlamp.opened import File
from store import Store
from workbench.cli.commands.experts import SUPER, load_profile, measure_pruning
from workbench.cli.commands.sweep import NEUTRAL_UP_TO
from workbench.cli.shared.prompt_options import read_common, read_lines
from workbench.cli.shared.recipe_files import RecipeFile
from workbench.cli.shared.removal_tables import read_concepts
from workbench.cli.shared.session import expand_home, read_text
from workbench.experts.answers import answer_profile
from workbench.experts.profiles import keep_texts
from workbench.generating.prompt_files import PromptLine
from workbench.levers.questions import SweepQuestion, adapt_prompts, surround
from workbench.skills.sources import make_skill_source
from workbench.unlearning.presets import make_quick
from workbench.unlearning.questions import UnlearningQuestion

__all__ = [
    "ask_sweep",
    "ask_unlearning",
    "check_saved",
    "make_common",
    "read_concepts",
    "read_experts",
    "read_prompts",
]

Prompts = Sequence[str] | Path
"""Texts, or a file of JSON lines with more fields."""


def read_prompts(prompts: Prompts, word: str | None = None) -> tuple[PromptLine, ...]:
    """Prompts, each with its split; of a file those for a word. Raises TextError for one bare text."""
    if isinstance(prompts, Path):
        return read_lines(None, expand_home(prompts), word)
    if isinstance(prompts, str):
        raise TextError(f"the prompts are one text, {prompts[:40]!r}; give a list of texts, or a Path")
    return read_lines(list(prompts), None, word)


def make_common(answer_prefix: str) -> Conversation:
    """What all prompts have."""
    return read_common(answer_prefix, "", None, False)


def ask_sweep(
    loaded: LoadedModel,
    neurons: Sequence[str],
    word: str,
    prompts: Prompts,
    answer_prefix: str,
    *,
    values: str,
    **options: Any,
) -> SweepQuestion:
    """The question of a sweep; neutral text is measured for few neurons, as on the command line."""
    lines, common = read_prompts(prompts, word), make_common(answer_prefix)
    given = tuple(surround(line, common) for line in lines if line.split == "select")
    spread, unit = parse_values(values)
    names = (neurons,) if isinstance(neurons, str) else tuple(dict.fromkeys(neurons))
    return SweepQuestion(
        word=word.strip(),
        neurons=names,
        prompts=given or adapt_prompts(loaded, find_word_kind(word).select, common),
        values=spread,
        unit=unit,
        neutral=len(names) <= NEUTRAL_UP_TO,
        **options,
    )


def read_experts(
    loaded: LoadedModel, store: Store, text: File | None, prune: str | None, *, draws: int, seed: int
) -> dict[str, Any]:
    """As `experts --json` prints it."""
    given = None if text is None else read_text(expand_home(Path(text)))
    texts = keep_texts(loaded, given, None)
    profile = load_profile(loaded, store, texts.question)
    verdict = find_super_experts(profile, Criterion())
    report = None
    if prune is not None:
        parts = choose_super_parts(verdict) if prune == SUPER else parse_parts(prune)
        report = measure_pruning(loaded, store, profile, verdict, parts, texts, draws, seed)
    pruned = None if report is None else report.to_document()
    return answer_profile(loaded, profile, verdict).to_document() | {"prune": pruned}


def ask_unlearning(
    forget: File,
    retain: File | Sequence[File],
    method: str | Sequence[str],
    *,
    limit: int,
    quick: bool,
    seed: int,
) -> UnlearningQuestion:
    """The question of unlearning. Raises BadSkillFile."""
    methods: tuple[str, ...] = (method,) if isinstance(method, str) else tuple(method)
    given = [retain] if isinstance(retain, str | Path) else retain
    asked = UnlearningQuestion(
        forget=make_skill_source(expand_home(Path(forget))),
        retain=tuple(make_skill_source(expand_home(Path(one))) for one in given),
        methods=methods,
        limit=limit,
        seed=seed,
    )
    return make_quick(asked) if quick else asked


def check_saved(recipe: RecipeFile) -> None:
    """Refuse a recipe that no weights can hold. Raises RecipeError."""
    if reason := why_not_baked(parse_recipe(recipe.document, tensors=recipe.tensors)):
        raise RecipeError(reason)
