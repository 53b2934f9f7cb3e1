"""`sweep`: dose curves of neurons."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from analysis.errors import HeadlampError
from analysis.levers.controls import CONTROLS
from analysis.levers.grids import parse_values
from analysis.opening.models import LoadedModel
from analysis.reading.word_kinds import find_word_kind
from store import Store
from workbench import expected
from workbench.cli.commands.jobs import answer_order
from workbench.cli.shared.lever_outputs import check_outputs, write_best
from workbench.cli.shared.lever_tables import format_sweep
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
    check_prefix,
    read_common,
    read_lines,
)
from workbench.cli.shared.session import open_session, show_bar
from workbench.expected import expect_work
from workbench.jobs.engines import InThread
from workbench.kinds import make_order
from workbench.levers.answers import SweepAnswer
from workbench.levers.evidence import keep_effect
from workbench.levers.questions import SweepQuestion, adapt_prompts, surround
from workbench.levers.sweeps import SWEEP, find_sweep, resolve_sweep, sweep_spec

NEUTRAL_UP_TO = 2
"""How many neurons a sweep may have to measure neutral text unasked."""


def sweep(
    model: ModelName,
    *,
    neuron: Annotated[
        list[str] | None,
        typer.Option(
            "--neuron", metavar="ADDRESS", help="A neuron to hold, such as L29.N808; may be repeated."
        ),
    ] = None,
    word: Annotated[
        str,
        typer.Option(
            "--word", metavar="WORD", callback=check_readable_text, help="The word; several tokens are fine."
        ),
    ] = "",
    prompt: Prompts = None,
    prompts: PromptFile = None,
    answer_prefix: AnswerPrefix = "",
    system: System = "",
    turn: Turns = None,
    raw: Raw = False,
    values: Annotated[
        str,
        typer.Option(
            "--values",
            metavar="LOW..HIGH",
            help="Values: 0 and 11 sizes of each sign up to HIGH, in r (× residual), x (× the largest "
            "activation) or neither; or a list, such as -1r,0.5r,2r.",
        ),
    ] = "-4r..4r",
    scope: Annotated[
        str, typer.Option("--scope", help="Where: last (the answer position), all, prompt or 3-7.")
    ] = "last",
    site: Annotated[
        Literal["key", "up", "gate"], typer.Option("--site", help="What is held; up and gate not in r.")
    ] = "key",
    controls: Controls = CONTROLS,
    neutral: Annotated[
        bool | None,
        typer.Option(
            "--neutral/--no-neutral",
            help="Measure neutral text and repetition at every value; unasked for up to 2 neurons.",
            show_default=False,
        ),
    ] = None,
    keep: Keep = None,
    recipe_out: RecipeOut = None,
    script_out: ScriptOut = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    seed: Seed = 0,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Hold neurons at many values, and measure a word.

    A dose curve for each neuron, beside random neurons of its block that write as much.
    """
    lines, common = read_lines(prompt, prompts, word), read_common(answer_prefix, system, turn, raw)
    check_prefix(answer_prefix, lines)
    spread, unit = parse_values(values)
    check_outputs(keep, recipe_out, script_out)
    with open_session(db, as_json) as here, here.model(model, device, dtype) as loaded:
        given = tuple(surround(line, common) for line in lines if line.split == "select")
        if lines and not given:
            raise HeadlampError("no prompt's split is select, and a sweep is on those; write it to one")
        asked = SweepQuestion(
            word=word.strip(),
            neurons=tuple(dict.fromkeys(neuron or ())),
            prompts=given or adapt_prompts(loaded, find_word_kind(word).select, common),
            values=spread,
            unit=unit,
            site=site,
            scope=scope,
            controls=controls,
            neutral=len(set(neuron or ())) <= NEUTRAL_UP_TO if neutral is None else neutral,
            seed=seed,
        )
        with show_bar("reading the reference text") as reading:
            asked = resolve_sweep(loaded, here.store, asked, reading)
        run, found = measure_sweep(loaded, here.store, asked)
        if keep is not None:
            say(f"Kept as finding {keep_effect(loaded, here.store, asked, found, run, title=keep).id}.")
        write_best(loaded, here.store, found, asked.prompts[0], recipe_out, script_out)
        here.show(found.to_document(), format_sweep(found))


def measure_sweep(loaded: LoadedModel, store: Store, asked: SweepQuestion) -> tuple[str, SweepAnswer]:
    """The run and the answer, computed as a job where it is not stored. asked: with `resolve_sweep` done."""
    order = make_order(SWEEP, loaded.ref, **asked.document())
    spec = sweep_spec(loaded, asked.document())
    answer_order(store, InThread(), order, spec, lambda: expect_work(loaded, expected.SWEEP, store))
    stored = find_sweep(loaded, store, asked)
    assert stored is not None  # the job is done
    return stored
