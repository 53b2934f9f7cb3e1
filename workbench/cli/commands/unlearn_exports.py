"""What `unlearn` writes beside what it prints: a recipe, a script, a whole model, its numbers for others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel
from analysis.unlearning.edits.baking import save_baked
from analysis.unlearning.guards.key_guards import KeyGuard
from store import Store, get_run
from workbench.cli.shared.output import as_json
from workbench.cli.shared.recipe_files import check_recipe, write_recipe
from workbench.files import check_new_folder, check_writable, replacing
from workbench.unlearning.guard_snippets import guard_snippet
from workbench.unlearning.results_file import harness_results
from workbench.unlearning.unlearning import Question, Unlearned, changes_of


@dataclass(frozen=True)
class Exports:
    """Of the first method: its recipe, a script that answers under its guard, a model with it baked in.

    results: a file for every method's numbers, as lm-evaluation-harness writes its own.
    """

    recipe: Path | None
    snippet: Path | None
    bake: Path | None
    results: Path | None = None

    def check(self, question: Question) -> None:
        """Raises HeadlampError for what could not be written, before anything is measured."""
        if self.recipe is not None:
            check_recipe(self.recipe, tensors=True)
        for path in (self.snippet, self.results):
            if path is not None:
                check_writable(path)
        if self.bake is not None:
            check_new_folder(self.bake)
        first = question.methods[0]
        if self.snippet is not None and (self.recipe is None or first != "ksd" or question.as_released):
            raise HeadlampError(
                "--snippet is a script for a guard and reads its recipe: make ksd the first --method, "
                "without --as-released, and give --recipe too"
            )
        if self.bake is not None and first != "sp":
            raise HeadlampError(
                f"--bake writes pruned neurons into the weights; {first} depends on what it reads, and no "
                "weight is equal to it: make sp the first --method, or write a --recipe"
            )

    def write_results(self, loaded: LoadedModel, store: Store, found: Unlearned) -> None:
        """Write the numbers, where that is asked for."""
        if self.results is not None:
            created = get_run(store, found.run).created_at
            with replacing(self.results) as stream:
                document = harness_results(found.document, loaded.ref.name, created)
                stream.write(as_json(document).encode() + b"\n")

    def write(self, loaded: LoadedModel, question: Question, files: Mapping[str, bytes]) -> None:
        """Write all else that is asked for. files: the recipe of the first method."""
        if self.recipe is not None:
            write_recipe(self.recipe, files)
        changes = changes_of(files)
        guard = next((change for change in changes if isinstance(change, KeyGuard)), None)
        if self.snippet is not None and self.recipe is not None and guard is not None:
            prompt = question.forget.read().items[0].prompt
            with replacing(self.snippet) as stream:
                stream.write(guard_snippet(loaded, guard, self.recipe.resolve(), prompt).encode())
        if self.bake is not None:
            check_new_folder(self.bake)
            save_baked(loaded, changes, self.bake)
