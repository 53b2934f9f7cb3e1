"""`levers` and `concepts`: the neurons that make a model say a word."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from analysis.errors import HeadlampError
from analysis.levers.controls import CONTROLS
from analysis.levers.levers import BY_GRADIENT, MOST_SETS
from analysis.opening.models import LoadedModel
from analysis.reading.word_kinds import CONCEPTS
from store import Store
from workbench import expected
from workbench.cli.commands.jobs import answer_order
from workbench.cli.shared.lever_outputs import check_outputs, write_best
from workbench.cli.shared.lever_tables import format_concepts, format_levers, list_concepts
from workbench.cli.shared.options import AsJson, Db, Device, Dtype, ModelName, Seed, check_readable_text
from workbench.cli.shared.output import say
from workbench.cli.shared.prompt_options import (
    AnswerPrefix,
    Controls,
    Keep,
    PromptFile,
    Prompts,
    Raw,
    RecipeOut,
    ScriptOut,
    System,
    Turns,
    Word,
    check_prefix,
    read_common,
    read_lines,
)
from workbench.cli.shared.session import open_session, read_text
from workbench.expected import expect_work
from workbench.jobs.engines import InThread, check_order
from workbench.kinds import make_order
from workbench.levers.evidence import keep_effect
from workbench.levers.levers import LEVERS, StoredLevers, check_levers, find_levers, levers_spec
from workbench.levers.questions import SITES, LeverQuestion, ask_levers

MOST_WORDS = 500
"""Largest number of words in a table."""


def levers(
    model: ModelName,
    word: Word,
    *,
    prompt: Prompts = None,
    held_out: Annotated[
        list[str] | None,
        typer.Option(
            "--held-out",
            metavar="TEXT",
            callback=check_readable_text,
            help="A prompt to report on; may be repeated.",
            show_default="those of the word's kind",
        ),
    ] = None,
    prompts: PromptFile = None,
    answer_prefix: AnswerPrefix = "",
    system: System = "",
    turn: Turns = None,
    raw: Raw = False,
    sites: Annotated[
        str, typer.Option("--sites", metavar="LIST", help="Labels that put neurons on the shortlist.")
    ] = ",".join(SITES),
    top: Annotated[
        int, typer.Option("--top", min=1, help="Neurons that the gradient puts on the shortlist.")
    ] = BY_GRADIENT,
    set_size: Annotated[int, typer.Option("--set-size", min=1, help="Largest set of neurons.")] = MOST_SETS,
    controls: Controls = CONTROLS,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Number of levers to list.")] = 10,
    search_matched: Annotated[
        bool,
        typer.Option(
            "--search-matched", help="Also search a random shortlist of equal size; twice the time."
        ),
    ] = False,
    keep: Keep = None,
    recipe_out: RecipeOut = None,
    script_out: ScriptOut = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    seed: Seed = 0,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Find the neurons that make a model say a word.

    Chosen on some prompts, reported on others, beside random neurons that were given the same search.
    """
    lines, common = read_lines(prompt, prompts, word), read_common(answer_prefix, system, turn, raw)
    check_prefix(answer_prefix, (*lines, *(held_out or ())))
    check_outputs(keep, recipe_out, script_out)
    with open_session(db, as_json) as here, here.model(model, device, dtype) as loaded:
        asked = ask_levers(
            loaded,
            word,
            lines,
            held_out or (),
            common,
            sites=tuple(name.strip() for name in sites.split(",") if name.strip()),
            top=top,
            set_size=set_size,
            controls=controls,
            search_matched=search_matched,
            seed=seed,
        )
        stored = search_levers(loaded, here.store, asked)
        found = stored.answer
        if keep is not None:
            kept = keep_effect(loaded, here.store, asked, found, stored.run, title=keep)
            say(f"Kept as finding {kept.id}.")
        write_best(loaded, here.store, found, asked.held_out[0], recipe_out, script_out)
        here.show(found.to_document(limit), format_levers(found, limit))


def concepts(
    model: ModelName,
    *,
    words: Annotated[
        Path | None,
        typer.Option(
            "--words",
            metavar="FILE",
            help="Words, one a line.",
            show_default="20 words of 12 kinds",
        ),
    ] = None,
    prompts: PromptFile = None,
    controls: Controls = CONTROLS,
    device: Device = "auto",
    dtype: Dtype = "auto",
    seed: Seed = 0,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """The concept table: which words a few neurons can make a model say.

    The levers of each word; stored word by word, so that a stopped table goes on where it was.
    """
    chosen = CONCEPTS if words is None else _read_words(words)
    lines = read_lines(None, prompts)
    started = time.perf_counter()
    with open_session(db, as_json) as here, here.model(model, device, dtype) as loaded:
        asked = [ask_levers(loaded, word, lines, controls=controls, seed=seed) for word in chosen]
        for one in asked:
            check_levers(loaded, one)
        found = [search_levers(loaded, here.store, one).answer for one in asked]
        here.show(list_concepts(found), format_concepts(found, time.perf_counter() - started))


def search_levers(loaded: LoadedModel, store: Store, asked: LeverQuestion) -> StoredLevers:
    """The stored levers of a word, computed as a job where they are not there."""
    order = make_order(LEVERS, loaded.ref, **asked.document())
    check_order(loaded, order)
    spec = levers_spec(loaded, asked.document())
    alike = {"set_size": asked.set_size, "controls": asked.controls}
    answer_order(store, InThread(), order, spec, lambda: expect_work(loaded, expected.LEVERS, store, **alike))
    stored = find_levers(loaded, store, asked)
    assert stored is not None  # the job is done
    return stored


def _read_words(path: Path) -> tuple[str, ...]:
    words = dict.fromkeys(line.strip() for line in read_text(path).splitlines() if line.strip())
    if not words:
        raise HeadlampError(f"{path} has no word; write one a line")
    if len(words) > MOST_WORDS:
        raise HeadlampError(
            f"{path} has {len(words)} words, each of them a search; give at most {MOST_WORDS}"
        )
    return tuple(words)
