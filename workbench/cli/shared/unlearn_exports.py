"""Exports of `unlearn`: a recipe, a script, a whole model, numbers in the harness's format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel
from analysis.unlearning.guards.linear_guards import Guard
from analysis.unlearning.methods import METHODS, find_method
from store import Store, get_run
from workbench.cli.shared.output import format_json
from workbench.cli.shared.recipe_files import check_recipe, write_recipe
from workbench.files import check_new_folder, check_writable, replace_file
from workbench.saving.saving import read_changes, save_model
from workbench.unlearning.answers import UnlearningAnswer
from workbench.unlearning.exports import why_nothing
from workbench.unlearning.guard_snippets import write_guard_snippet
from workbench.unlearning.questions import UnlearningQuestion
from workbench.unlearning.results_file import write_harness_results


def _name_those(field: str) -> str:
    """The methods whose record has a field set: `sp`, `ksd or na`."""
    return " or ".join(name for name, record in METHODS.items() if getattr(record, field))


@dataclass(frozen=True)
class Exports:
    """Of the first method: its recipe, a script that answers under its guard, a model with it baked in.

    results: a file for every method's numbers, as lm-evaluation-harness writes its own.
    """

    recipe: Path | None
    snippet: Path | None
    bake: Path | None
    results: Path | None = None

    def check(self, question: UnlearningQuestion) -> None:
        """Raise HeadlampError for an export that will be impossible, before anything is measured."""
        if self.recipe is not None:
            check_recipe(self.recipe, tensors=True)
        for path in (self.snippet, self.results):
            if path is not None:
                check_writable(path)
        if self.bake is not None:
            check_new_folder(self.bake)
        first = find_method(question.methods[0])
        if self.snippet is not None and (self.recipe is None or not first.scripted):
            raise HeadlampError(
                "--snippet writes a script for a guard, which reads its recipe: make "
                f"{_name_those('scripted')} the first --method, and give --recipe too"
            )
        if self.bake is not None and not first.baked:
            raise HeadlampError(
                f"--bake writes pruned neurons into the weights; {first.name} depends on the input, so no "
                f"weight equals it: make {_name_those('baked')} the first --method, or write a --recipe"
            )

    def write_results(self, loaded: LoadedModel, store: Store, found: UnlearningAnswer) -> None:
        """Write the numbers, if requested."""
        if self.results is not None:
            created = get_run(store, found.run).created_at
            with replace_file(self.results) as stream:
                document = write_harness_results(found, loaded.ref.name, created)
                stream.write(format_json(document).encode() + b"\n")

    def write(self, loaded: LoadedModel, question: UnlearningQuestion, files: Mapping[str, bytes]) -> None:
        """Write all other requested exports. files: the recipe of the first method.

        Raises HeadlampError if that method changes nothing.
        """
        changes = read_changes(files)
        wanted = any(path is not None for path in (self.recipe, self.snippet, self.bake))
        if wanted and (reason := why_nothing(changes)):
            raise HeadlampError(
                f"{reason}; the numbers are stored: run it again without --recipe and --bake to see them, or "
                "with a smaller --share"
            )
        if self.recipe is not None:
            write_recipe(self.recipe, files)
        guard = next((change for change in changes if isinstance(change, Guard)), None)
        if self.snippet is not None and self.recipe is not None and guard is not None:
            prompt = question.forget.read().items[0].prompt
            with replace_file(self.snippet) as stream:
                stream.write(write_guard_snippet(loaded, guard, self.recipe.resolve(), prompt).encode())
        if self.bake is not None:
            save_model(loaded, changes, self.bake, files)
