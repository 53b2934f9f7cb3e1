"""The concept table: which words have a neuron that, when clamped, makes the model predict them, with matched
controls.

    python -m training.concepts demo/base --json

For each word, the neurons `find` ranks best (any site, either sign) are clamped at the key site over a grid
within ±16 × their largest activation. Neuron and value are chosen on SELECTION prompts and reported on
HELD_OUT ones. The controls are 20 random neurons of the same block, matched in |raw value|·‖w_down‖ and given
the same search (METHODS §2). A word none of whose candidates was ever active is skipped, and does not pass.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import nan
from statistics import fmean, median

from analysis.errors import HeadlampError
from analysis.intervening.clamps import Clamp
from analysis.neurons.decoding import NeuronNorm
from analysis.neurons.effects import (
    GRID,
    ClampEffect,
    measure_answer_probabilities,
    search_controls,
    search_value,
)
from analysis.opening.models import LoadedModel, ModelRef
from analysis.running.prompts import encode_prompt
from store import Store, StoreError, open_store
from training.evaluate import Score
from workbench.models import open_model
from workbench.neurons.profiles import find_neuron_profile
from workbench.neurons.searching import SearchHit, find_word

CONCEPTS = {
    "dog": "animal",
    "cat": "animal",
    "horse": "animal",
    "lion": "animal",
    "bear": "animal",
    "apple": "fruit",
    "banana": "fruit",
    "red": "colour",
    "blue": "colour",
    "Paris": "city",
    "Rome": "city",
    "bread": "food",
    "cheese": "food",
    "piano": "instrument",
    "guitar": "instrument",
    "rose": "flower",
    "king": "job",
    "doctor": "job",
    "rain": "weather",
    "snow": "weather",
}
"""Word → the category whose prompts elicit it."""

SELECTION = (
    "I really like",
    "The {c} that I like most is",
    "Which {c} do you like best? I like",
    "We all like",
)
HELD_OUT = ("My favourite {c} is", "What is your favourite {c}? It is", "Anna's favourite {c} is")
NO_ARTICLE = ("colour", "city", "food", "weather")
CANDIDATES = 10
"""Candidates per site: the best neurons."""

CONTROLS = 20
BASE_BELOW, CHANGED_ABOVE, CONTROLS_BELOW = 0.15, 0.9, 0.3
"""Bounds for a word to pass: mean P(word) over the held-out prompts, before, after, and under every
control."""


@dataclass(frozen=True)
class Concept:
    """One row: the best clamp for a word, and mean P(word) over the held-out prompts."""

    word: str
    token: str
    address: str
    found_at: str
    value: float
    raw: float
    selection: float
    base: float
    changed: float
    prompts: dict[str, tuple[float, float]]
    controls: tuple[float, ...]

    @property
    def passed(self) -> bool:
        """Whether base, changed and every control satisfy their bounds."""
        return (
            self.base < BASE_BELOW
            and self.changed > CHANGED_ABOVE
            and max(self.controls, default=0.0) < CONTROLS_BELOW
        )


def concept(
    loaded: LoadedModel, store: Store, word: str, category: str, controls: int = CONTROLS
) -> Concept | None:
    """Search the best clamp for one word, and run the same search for as many random neurons.

    None where no candidate was ever active on the reference text.
    """
    chosen_on, shown_on = (_prompts(templates, category) for templates in (SELECTION, HELD_OUT))
    selection = [encode_prompt(loaded, prompt) for prompt in chosen_on]
    token = _token(loaded, word)
    levers = []
    for found in candidates(loaded, store, word):
        raws = _raws(loaded, store, found)
        if raws:
            lever = search_value(loaded, found.address, selection, token, values=GRID, raws=raws)
            levers.append((lever, found, raws))
    if not levers:
        return None
    lever, found, raws = max(levers, key=lambda row: row[0].probability)
    fair = search_controls(loaded, lever, selection, token, values=GRID, raws=raws, count=controls)
    table = _measure_held_out(loaded, shown_on, [lever, *fair], token)
    means = [fmean(row[i] for row in table.values()) for i in range(2 + len(fair))]
    return Concept(
        word=word,
        token=loaded.vocabulary.texts[token],
        address=str(lever.address),
        found_at=f"{found.site}{found.sign}",
        value=lever.value,
        raw=lever.raw,
        selection=lever.probability,
        base=means[0],
        changed=means[1],
        prompts={prompt: (row[0], row[1]) for prompt, row in table.items()},
        controls=tuple(means[2:]),
    )


def candidates(loaded: LoadedModel, store: Store, word: str) -> list[SearchHit]:
    """The neurons that `find` ranks best by z-score at each site, either sign; each neuron once.

    The down vector is also decoded through the final norm: at large values it dominates what the head sees.
    """
    best: dict[str, SearchHit] = {}
    norms: tuple[NeuronNorm, ...] = ("none", "final")
    for site, norm in [(site, norms[0]) for site in loaded.anatomy.sites] + [("down", norms[1])]:
        found = find_word(loaded, store, word, site=site, norm=norm, by="z", limit=CANDIDATES)
        for neuron in found.neurons:
            best.setdefault(str(neuron.address), neuron)
    return list(best.values())


def _prompts(templates: Sequence[str], category: str) -> list[str]:
    article = "" if category in NO_ARTICLE else " the"
    return [template.format(c=category) + article for template in templates]


def _token(loaded: LoadedModel, word: str) -> int:
    """The token of the word after a space, which should continue the prompts."""
    if f" {word}" not in loaded.vocabulary.texts:
        raise HeadlampError(f"' {word}' is not one token of {loaded.ref.name}")
    return loaded.vocabulary.texts.index(f" {word}")


def _raws(loaded: LoadedModel, store: Store, found: SearchHit) -> list[float]:
    """The grid in the neuron's own units; empty if it was never active on the reference text."""
    profile = find_neuron_profile(loaded, store, found.address)
    largest = 0.0 if profile is None else profile["key"].largest
    return [value * largest for value in GRID] if largest > 0 else []


def _measure_held_out(
    loaded: LoadedModel, prompts: Sequence[str], levers: Sequence[ClampEffect], token: int
) -> dict[str, list[float]]:
    """Per prompt: P(token) in base, then under each clamp."""
    held: list[Clamp] = [lever.clamp for lever in levers]
    return {
        prompt: measure_answer_probabilities(loaded, encode_prompt(loaded, prompt), held, token).tolist()
        for prompt in prompts
    }


def main() -> int:
    """Run the command; returns 2 for one of our own errors."""
    parser = argparse.ArgumentParser(prog="python -m training.concepts", description=__doc__.split("\n")[0])
    parser.add_argument("model", nargs="?", default="demo/base")
    parser.add_argument("--words", nargs="+", default=list(CONCEPTS), choices=list(CONCEPTS), metavar="WORD")
    parser.add_argument("--controls", type=int, default=CONTROLS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        store = open_store()
        with open_model(ModelRef(options.model), store) as loaded:
            rows = {w: concept(loaded, store, w, CONCEPTS[w], options.controls) for w in options.words}
    except (HeadlampError, StoreError) as error:
        print(error, file=sys.stderr)
        return 2
    print(_json(options.model, rows) if options.json else _table(rows))
    return 0


Rows = dict[str, Concept | None]
"""Word → its row; None where no candidate was ever active."""


def _passed(rows: Rows) -> int:
    return sum(row is not None and row.passed for row in rows.values())


def _json(model: str, rows: Rows) -> str:
    passed = _passed(rows)
    document = {
        "model": model,
        "concepts": [asdict(row) | {"passed": row.passed} for row in rows.values() if row is not None],
        "skipped": [word for word, row in rows.items() if row is None],
        "passed": passed,
        "of": len(rows),
        "interval": Score(passed, len(rows)).interval,
    }
    return json.dumps(document, indent=1, allow_nan=False)


def _table(rows: Rows) -> str:
    lines = ["word      neuron      found at   value   base  held  controls: median  largest"]
    for word, row in rows.items():
        if row is None:
            lines.append(f"{word:9} — no candidate active")
            continue
        controls = row.controls or (nan,)
        lines.append(
            f"{row.word:9} {row.address:11} {row.found_at:8} {row.value:+6.0f}x  {row.base:.3f} "
            f"{row.changed:.3f}            {median(controls):.3f}    {max(controls):.3f}"
            f"  {'' if row.passed else 'no'}"
        )
    lines.append(f"{_passed(rows)} of {len(rows)} pass")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
