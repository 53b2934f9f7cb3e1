"""Answers that were measured: dose curves, levers, experts, unlearning, removal, a saved model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import HeadlampError
from analysis.figures.answers import answer_figure
from analysis.figures.bars import NamedBars, bars_figure
from analysis.figures.doses import dose_figure
from analysis.figures.experts import ExpertCells, expert_map_figure
from analysis.figures.levers import lever_figure
from analysis.figures.pruning import effect_figure
from analysis.figures.theme import Figure
from analysis.figures.unlearning import DropMatrix, drop_matrix_figure
from headlamp.answers import Answer
from store.word_evidence import WordEvidence, read_word_evidence
from workbench.levers.pictures import list_doses, make_dose_lines, make_lever_bars

SKILL_COLUMNS = ("n", "before", "after", "relative_drop", "interval")
PROMPT_COLUMNS = ("split", "prompt", "before", "after", "zeroed", "says")


@dataclass(frozen=True)
class WordEffect(Answer):
    """What neurons do to a word. question: what was asked, as a job has it."""

    question: Mapping[str, Any] = field(repr=False)

    @property
    def verdict(self) -> str:
        """What was found, in a sentence."""
        return str(self.document["verdict"])

    @cached_property
    def said(self) -> WordEvidence:
        """The answer as the charts read it."""
        return read_word_evidence({"document": self.document, "question": self.question})


@dataclass(frozen=True)
class DoseCurves(WordEffect):
    """A word's probability while neurons are held at many values, beside random neurons (METHODS §2)."""

    def figure(self, neuron: str = "") -> Figure:
        """The dose curve of a neuron, the first one where none is named. Raises HeadlampError for others."""
        names = [str(curve["address"]) for curve in self.document["neurons"]]
        name = neuron or names[0]
        if name not in names:
            raise HeadlampError(f"{name} was not swept; {', '.join(names)} was")
        lines = make_dose_lines(self.said, list_doses(self.said, name))
        return dose_figure(self.said.word, lines, unit=self.said.unit)

    def table(self) -> pd.DataFrame:
        """A row for each neuron and value: mean P(word) in [0, 1], KL in nats, repetition, collapse."""
        rows = [
            {"neuron": curve["address"]} | {k: v for k, v in point.items() if k != "probability"}
            for curve in self.document["neurons"]
            for point in curve["points"]
        ]
        return pd.DataFrame(rows)


@dataclass(frozen=True)
class Levers(WordEffect):
    """The neurons that make a model say a word, chosen on some prompts, reported on others."""

    @property
    def clamps(self) -> list[str]:
        """The best lever's clamps, as `Model.generate` takes them; empty where nothing raises the word."""
        return list(self.document["best"] or ())

    def figure(self) -> Figure:
        """A bar for each of the best levers: P(word) on held-out prompts, beside random sets."""
        return lever_figure(self.said.word, make_lever_bars(self.said))

    def table(self) -> pd.DataFrame:
        """A row for each lever: its clamps, and P(word) in [0, 1] where it was chosen and held out."""
        rows = [
            {k: " ".join(v) if k == "clamps" else v for k, v in lever.items() if k not in _LISTS}
            for lever in self.document["levers"]
        ]
        return pd.DataFrame(rows)


_LISTS = ("per_prompt", "controls")


@dataclass(frozen=True)
class ExpertTable(Answer):
    """Experts, or a dense model's blocks, with their largest outputs and the verdict on each (METHODS §3)."""

    @property
    def supers(self) -> list[str]:
        """The addresses of the super experts."""
        return list(self.document["super"])

    def figure(self) -> Figure:
        """The largest output by layer and expert; where something was pruned, what that costs."""
        if self.document["prune"] is not None:
            return effect_figure(self._list_effects())
        rows = self.document["experts"] or self.document["blocks"]
        columns = ["dense" if r["expert"] is None else f"{'ES'[r['shared']]}{r['expert']}" for r in rows]
        texts = [f"{row['address']}: {row['max_abs']:.4g}" for row in rows]
        sizes, names = np.array([row["max_abs"] for row in rows]), [row["address"] for row in rows]
        cells = ExpertCells([row["layer"] for row in rows], columns, sizes, names, texts)
        return expert_map_figure(cells, {"super": self.supers}, measure="max |down output|", log=True)

    def table(self) -> pd.DataFrame:
        """A row for each expert, or block of a dense model, largest output first."""
        rows = [*self.document["experts"], *self.document["blocks"]]
        return pd.DataFrame(rows).sort_values("max_abs", ascending=False, ignore_index=True)

    def _list_effects(self) -> dict[str, list[float]]:
        """Δ mean NLL of the pruned set, then of the random ones."""
        prune = self.document["prune"]
        groups = {", ".join(prune["pruned"]): [prune["super"]]}
        groups |= {"random": prune["random"], "random, same layers": prune["same_layer"]}
        return {
            name: [one["delta_nll"] for one in sets if one["delta_nll"] is not None]
            for name, sets in groups.items()
            if sets
        }


@dataclass(frozen=True)
class Changing(Answer):
    """An answer that comes with a change. recipe: its files by name, as `Model.generate` and `Model.save`
    take them.
    """

    recipe: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True)
class Unlearned(Changing):
    """One skill forgotten and others retained, measured before and after (METHODS §4). recipe: of the first
    method.
    """

    def figure(self) -> Figure:
        """Skills by methods: accuracy before and after, the stronger the colour the larger the drop."""
        methods = self.document["methods"]
        names = [skill["skill"] for skill in methods[0]["skills"]]
        cells = [[one["skills"][row] for one in methods] for row in range(len(names))]
        texts = [[_write_change(cell) for cell in row] for row in cells]
        drops = np.array([[_read_drop(cell) for cell in row] for row in cells])
        labels = [f"{name} (forget)" if at == 0 else name for at, name in enumerate(names)]
        return drop_matrix_figure(DropMatrix(labels, [one["method"] for one in methods], drops, texts, texts))

    def table(self) -> pd.DataFrame:
        """A row for each method and skill: share correct before and after, and the relative drop."""
        rows = [
            {"method": one["method"], "skill": skill["skill"], "role": skill["role"]}
            | {name: skill[name] for name in SKILL_COLUMNS}
            for one in self.document["methods"]
            for skill in one["skills"]
        ]
        return pd.DataFrame(rows)


@dataclass(frozen=True)
class Removed(Changing):
    """Concepts removed by reversing the vectors that point at them."""

    @property
    def verdict(self) -> str:
        """What was found, in a sentence."""
        return str(self.document["verdict"])

    def figure(self) -> Figure:
        """P(concept) before and after on each prompt, those aimed at first."""
        rows = self._list_prompts()
        names = [f"{row['prompt']} ({row['split']})" for row in rows]
        return answer_figure(names, [row["before"] for row in rows], [row["after"] for row in rows])

    def table(self) -> pd.DataFrame:
        """A row for each concept and prompt: P before, after, and with the head rows zeroed, in [0, 1]."""
        return pd.DataFrame(self._list_prompts())

    def _list_prompts(self) -> list[dict[str, Any]]:
        return [
            {"concept": one["concept"]} | {name: row[name] for name in PROMPT_COLUMNS}
            for one in self.document["concepts"]
            for row in one["prompts"]
        ]


@dataclass(frozen=True)
class Saved(Answer):
    """A changed model that was written into a folder, opened again and compared."""

    @property
    def folder(self) -> str:
        """The folder, as `headlamp.open` and transformers take it."""
        return str(self.document["folder"])

    def figure(self) -> Figure:
        """How many rows of each parameter differ from the model's own."""
        changed = self.document["changed"]
        return bars_figure(
            NamedBars([one["tensor"] for one in changed], [one["rows"] for one in changed], "rows")
        )

    def table(self) -> pd.DataFrame:
        """A row for each parameter that differs: rows, and the cosine with the model's own."""
        return pd.DataFrame(self.document["changed"], columns=["tensor", "rows", "cosine"])


def _read_drop(skill: Mapping[str, Any]) -> float:
    drop = skill["relative_drop"]
    return float("nan") if drop is None else float(drop)


def _write_change(skill: Mapping[str, Any]) -> str:
    if skill["before"] is None:
        return "perplexity"
    return f"{skill['before']:.3f} → {skill['after']:.3f}"
