"""What a sweep or a search for levers leaves behind: a finding's title, a recipe, a script."""

from __future__ import annotations

from pathlib import Path

from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel
from analysis.recipes.files import write_recipe_files
from analysis.running.conversations import Conversation
from store import Store
from workbench.cli.shared.output import say
from workbench.cli.shared.recipe_files import check_recipe, write_recipe
from workbench.files import check_writable, replace_file
from workbench.levers.answers import LeverAnswer, SweepAnswer
from workbench.levers.best import best_clamps, write_best_script


def check_outputs(keep: str | None, recipe_out: Path | None, script_out: Path | None) -> None:
    """Refuse outputs that could not be written, before anything is computed."""
    if keep is not None and not keep.strip():
        raise HeadlampError("--keep needs a title; write in a few words what the finding shows")
    if recipe_out is not None:
        check_recipe(recipe_out, tensors=False)
    if script_out is not None:
        check_writable(script_out)


def write_best(
    loaded: LoadedModel,
    store: Store,
    found: LeverAnswer | SweepAnswer,
    prompt: Conversation,
    recipe_out: Path | None,
    script_out: Path | None,
) -> None:
    """Write recipe and script of an answer's best clamps, where they are asked for and there are any."""
    clamps = best_clamps(found)
    if not clamps and (recipe_out or script_out):
        say(
            "Nothing raises the word and leaves the text whole, so there is no recipe and no script to write."
        )
        return
    if recipe_out is not None:
        write_recipe(recipe_out, write_recipe_files(loaded, clamps, "recipe"))
    if script_out is not None:
        try:
            script = write_best_script(loaded, store, clamps, prompt, found.word)
        except HeadlampError as error:  # the answer is there all the same
            say(f"No script was written: {error}")
            return
        with replace_file(script_out) as file:
            file.write(script.encode("utf-8"))
