"""`generate`: a model's text with and without clamps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.errors import HeadlampError
from analysis.intervening.clamps import parse_clamp
from analysis.intervening.interventions import Change
from analysis.intervening.steps import AttachableChange
from analysis.opening.models import LoadedModel
from analysis.recipes.files import write_recipe_files
from analysis.running.configured import describe_settings
from analysis.running.conversations import parse_turn
from analysis.running.generation import BEST, Sampling
from store import Store
from store.evidence import make_token_visible
from workbench.cli.shared.options import AsJson, Db, Device, Dtype, ModelName, Seed, check_readable_text
from workbench.cli.shared.output import format_number, format_table, say
from workbench.cli.shared.prompt_options import AnswerPrefix, Raw, System, Turns
from workbench.cli.shared.recipe_files import apply_recipe, check_recipe, read_recipe_file, write_recipe
from workbench.cli.shared.session import open_session, show_bar
from workbench.cli.shared.several_prompts import format_several, generate_several, list_several, read_prompts
from workbench.findings.findings import keep_generation
from workbench.findings.pair_evidence import check_keepable, list_outputs
from workbench.generating.clamping import Generation, stream_pair
from workbench.generating.requests import GenerationRequest, describe_used
from workbench.generating.several import average_word
from workbench.levers.random_clamps import measure_random_clamps


def generate(
    model: ModelName,
    *,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt",
            metavar="TEXT",
            callback=check_readable_text,
            help="The text to continue or to answer; may be repeated.",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            metavar="FILE.jsonl",
            help="Several prompts in place of one, a JSON object a line: prompt, and where they differ "
            "answer_prefix, system, word, split.",
        ),
    ] = None,
    answer_prefix: AnswerPrefix = "",
    system: System = "",
    turn: Turns = None,
    raw: Raw = False,
    clamp: Annotated[
        list[str] | None,
        typer.Option(
            "--clamp",
            metavar="CLAMP",
            help="ADDRESS[:SITE]:MODE[:VALUE][@SCOPE], such as L2.N47:key:set:-8x@all or "
            "L2.N47:set:1.5r@last; may be repeated.",
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option("--recipe", metavar="FILE", help="A recipe; its changes precede those of --clamp."),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", help="Longest answer, 1 to 4096.")] = 40,
    temperature: Annotated[float, typer.Option("--temperature", help="0 is greedy; up to 10.")] = 0.0,
    as_configured: Annotated[
        bool,
        typer.Option(
            "--as-configured",
            help="Apply the model's generation_config.json (temperature, penalties); the draw is ours.",
        ),
    ] = False,
    word: Annotated[
        str,
        typer.Option(
            "--word",
            metavar="WORD",
            callback=check_readable_text,
            help="A word whose probability is reported, over its spellings: behind --answer-prefix, else "
            "where a chat model's own answer says it, and at every position. Several tokens are fine.",
        ),
    ] = "",
    fold_case: Annotated[
        bool, typer.Option("--fold-case", help="Count every case of --word: dog, Dog and DOG.")
    ] = False,
    keep: Annotated[
        str | None,
        typer.Option(
            "--keep",
            metavar="TITLE",
            callback=check_readable_text,
            help="Keep the pair as a finding with this title.",
        ),
    ] = None,
    recipe_out: Annotated[
        Path | None, typer.Option("--recipe-out", metavar="FILE", help="Write all changes as a recipe.")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    seed: Seed = 0,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Generate a text with and without clamps.

    Generates both texts side by side, and compares the answer position token by token.
    """
    clamps = tuple(parse_clamp(text) for text in clamp or ())
    turns = tuple(parse_turn(text) for text in turn or ())
    given = None if recipe is None else read_recipe_file(recipe)
    sampling = Sampling(max_new_tokens, temperature, seed, as_configured)
    asked = prompt or []
    lines = read_prompts(asked, prompts, keep)
    if recipe_out is not None:
        check_recipe(recipe_out, tensors=given is not None and bool(given.tensors))
    if fold_case and not word.strip() and not any(line.word.strip() for line in lines):
        raise HeadlampError("--fold-case counts every case of a word, and none is given; add --word")
    if keep is not None and not keep.strip():
        raise HeadlampError("--keep needs a title; write in a few words what the finding shows")
    with open_session(db, as_json) as here, here.model(model, device, dtype) as loaded:
        first = () if given is None else apply_recipe(given, loaded)
        changes = (*first, *clamps)
        first_prompt = lines[0].prompt if lines else asked[0]
        request = GenerationRequest(
            first_prompt, changes, answer_prefix, sampling, word, system, turns, raw, fold_case
        )
        if keep is not None:
            check_keepable(request.clamps)
        unapplied = describe_settings(loaded)
        if unapplied and not as_configured:
            say(f"The model's generation_config asks for {unapplied}: not applied; --as-configured does.")
        if lines:
            name = "--prompt" if prompts is None else prompts.name
            found = generate_several(loaded, here.store, lines, request, name)
            if recipe_out is not None:
                write_recipe(recipe_out, write_recipe_files(loaded, found[0].request.clamps, "recipe"))
            mean = average_word(found, seed)
            controls = measure_random_clamps(loaded, [pair.request for pair in found], seed)
            here.show(
                list_several(found, lines, seed, mean, controls),
                format_several(found, lines, mean, controls),
            )
            return
        result = generate_text(loaded, here.store, request)
        if recipe_out is not None:
            files = write_recipe_files(loaded, result.request.clamps, "recipe", result.reach.used)
            write_recipe(recipe_out, files)
        if keep is not None:
            say(f"Kept as finding {keep_generation(loaded, here.store, result, title=keep).id}.")
        here.show({"prompt": request.prompt, "seed": seed} | list_outputs(result), _format_result(result))


def generate_text(loaded: LoadedModel, store: Store, request: GenerationRequest) -> Generation:
    """The finished pair; warnings, and clamps without effect, are reported on stderr."""
    result: Generation | None = None
    with show_bar("reading the reference text") as reading, show_bar("generating") as writing:
        for result in stream_pair(loaded, store, request, reading):
            writing(len(result.changed_ids), request.sampling.max_new_tokens)
    if result is None:
        raise HeadlampError("the prompt fills the model's context; shorten it")
    if result.warning:
        say(f"Warning: {result.warning}")
    for text in describe_used(loaded, result.request.clamps, result.reach):
        say(text)
    for one, covered, acted in _list_reach(result):
        if acted < covered or not acted:
            say(f"{one}: acted on {acted} of the {covered} positions in its scope.")
    return result


def _list_reach(result: Generation) -> list[tuple[Change, int, int]]:
    """Each change whose positions are counted, with how many it covered and acted on."""
    counted = zip(result.request.clamps, result.reach.covered, result.reach.acted, strict=False)
    return [told for told in counted if not isinstance(told[0], AttachableChange)]


def _format_result(result: Generation) -> str:
    rows = [
        (make_token_visible(token.token), format_number(token.base), format_number(token.changed))
        for token in result.answer[:BEST]
    ]
    parts = [
        f"base:{result.base_text}",
        f"changed:{result.changed_text}",
        f"answer position:\n{format_table(('token', 'base', 'changed'), rows)}",
    ]
    if result.word is not None:
        base, changed = (format_number(p) for p in result.word)
        highest = _format_highest(result)
        said = f"\n{result.place.said}" if result.place else ""
        parts.append(f"P({result.request.word.strip()}): {base} base, {changed} changed{highest}{said}")
    return "\n\n".join(parts)


def _format_highest(result: Generation) -> str:
    """Where in the texts the word is likelier than at the answer position."""
    said = []
    paths = zip(("base", "changed"), result.per_position or ((), ()), result.word or (1, 1), strict=True)
    for name, path, here in paths:
        known = [p for p in path if p is not None]
        if known and max(known) > 1.001 * here:
            said.append(f"{format_number(max(known))} {name} (token {known.index(max(known)) + 1})")
    return f"; highest in the text: {', '.join(said)}" if said else ""
