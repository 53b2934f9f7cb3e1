"""Abstention benchmark: a box around one real text's keys against other real texts: `python -m
bench.abstention MODEL DATA`.

MODEL: a folder, such as stories260K. DATA: the folder that holds tinystories, gsm8k, mbpp, wikitext-2 and
xquad. The box is fitted on TinyStories; a model without the skill also shows whether detection separates the
texts.
"""

from __future__ import annotations

import sys
from pathlib import Path

from analysis.errors import TooFewExamples
from analysis.opening.leases import lease_model
from analysis.opening.models import LoadedModel, ModelRef
from analysis.skills.files import read_skill
from analysis.skills.splits import Split, split_skill
from analysis.unlearning.guards.guard_fits import GuardFit, LayerChoice, fit_guard, measure_query_depths
from analysis.unlearning.guards.operating import measure_abstention
from analysis.unlearning.scenes import Scene, encode_queries

COUNT = 300
FILES = {
    "TinyStories": "tinystories/tinystories_1000.json",
    "GSM8K": "gsm8k/test.jsonl",
    "MBPP": "mbpp/mbpp.jsonl",
    "WikiText": "wikitext-2/valid.txt",
    **{f"XQuAD {lang}": f"xquad/xquad.{lang}.json" for lang in "ar de en es hi vi zh".split()},
}
SHOWN = 0.5, 0.75, 1.0, 1.25, 1.5, 2.0


def main() -> None:
    """Print the table for the paper's box, for all layers, and for all layers with rivals."""
    model, data = sys.argv[1:3]
    splits = [
        split_skill(read_skill(Path(data) / path, name).subsample(COUNT)) for name, path in FILES.items()
    ]
    with lease_model(ModelRef(model)) as loaded:
        fitting = [split for split in splits if _fits(loaded, split)]
        scene = Scene(fitting[0], tuple(fitting[1:]))
        choices: tuple[tuple[LayerChoice, bool], ...] = (("last", False), ("all", False), ("all", True))
        for layers, rivals in choices:
            _show(loaded, scene, fit_guard(loaded, scene, layers=layers, rivals=rivals))


def _fits(loaded: LoadedModel, split: Split) -> bool:
    """Whether some queries fit into the context; the others are skipped everywhere."""
    try:
        counts = [len(encode_queries(loaded, part)) for part in (split.validation, split.test)]
    except TooFewExamples:
        counts = [0]
    print(f"{split.skill:12} {counts[-1]:4} of {len(split.test)} test queries fit")
    return min(counts) > 0


def _show(loaded: LoadedModel, scene: Scene, fit: GuardFit) -> None:
    chosen = fit.guard.alpha
    columns = [*SHOWN, chosen]
    tests = {split.skill: encode_queries(loaded, split.test) for split in scene.splits}
    depths = {name: measure_query_depths(loaded, fit.guard, asked) for name, asked in tests.items()}
    layers = ", ".join(f"L{box.layer}" for box in fit.guard.boxes)
    against = ", ".join(rival.skill for rival in fit.guard.rivals)
    print(f"\nboxes of {layers}, n = {fit.guard.boxes[0].n}, α chosen on validation {chosen}")
    if against:
        print(f"rivals {against}; margin {fit.guard.margin}")
    print(f"{'refused at α':12} " + " ".join(f"{alpha:6.2f}" for alpha in columns[:-1]) + "  chosen")
    for name, found in depths.items():
        print(f"{name:12} " + " ".join(f"{share:6.3f}" for share in measure_abstention(found, columns)))


if __name__ == "__main__":
    main()
