"""Answers about neurons and texts. Each has its document, its chart and its table."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from analysis.errors import HeadlampError
from analysis.figures.answers import answer_figure, word_path_figure
from analysis.figures.bars import NamedBars, bars_figure
from analysis.figures.hits import Hits, hits_figure, spread_layers
from analysis.figures.theme import Figure
from analysis.neurons.word_search import By
from store.evidence import make_token_visible
from workbench.generating.clamping import Generation
from workbench.neurons.searching import WordSearch

MEASURES: Mapping[By, str] = {"z": "z-score", "cosine": "cosine", "probability": "probability"}


@dataclass(frozen=True)
class Answer(ABC):
    """An answer. document: as the command line's --json prints it."""

    document: Mapping[str, Any] = field(repr=False)

    def to_document(self) -> dict[str, Any]:
        """The answer as JSON holds it: a copy, ready for json.dumps."""
        return copy.deepcopy(dict(self.document))

    @abstractmethod
    def figure(self) -> Figure:
        """The answer as a chart."""

    @abstractmethod
    def table(self) -> pd.DataFrame:
        """The answer as a table."""

    def _repr_html_(self) -> str:
        return str(self.table().to_html(max_rows=20, border=0))


@dataclass(frozen=True)
class WordNeurons(Answer):
    """The neurons that decode to a word, best first (METHODS §1). by: what ranks them."""

    search: WordSearch = field(repr=False)
    by: By

    def figure(self) -> Figure:
        """A dot for each neuron: its layer, and its score beside the spread of all neurons."""
        score = self.search.scores.by(self.by).numpy()
        found = self.search.neurons
        hits = Hits(
            layer=[hit.address.block.layer for hit in found],
            score=[float(score[hit.index]) for hit in found],
            name=[str(hit.address) for hit in found],
            token=[make_token_visible(hit.token) for hit in found],
            measure=MEASURES[self.by],
        )
        return hits_figure(hits, spread_layers(self.search.places.layer, score))

    def table(self) -> pd.DataFrame:
        """A row for each neuron: address, sign, token, probability in [0, 1] or none, z-score, cosine."""
        columns = ("address", "sign", "token", "probability", "z_score", "cosine")
        return pd.DataFrame(self.document["neurons"], columns=columns)


@dataclass(frozen=True)
class NeuronFacts(Answer):
    """One neuron: its tokens at each site, and its activations where they were asked for."""

    def figure(self, site: str = "down") -> Figure:
        """The logits of the tokens at both ends of a site. Raises HeadlampError for a site it has not."""
        ends = self._ends(site)
        names = [make_token_visible(token["token"]) for token in ends]
        return bars_figure(NamedBars(names, [token["logit"] for token in ends], f"logit at {site}"))

    def table(self) -> pd.DataFrame:
        """A row for each token of each site's two ends."""
        rows = [
            {"site": site, "end": end, **token}
            for site, decoded in self.document["sites"].items()
            for end in ("top", "bottom")
            for token in decoded[end]
        ]
        return pd.DataFrame(rows, columns=["site", "end", "token_id", "token", "logit", "probability"])

    def activations(self) -> pd.DataFrame:
        """A row for each token of the text: its value at every clamp site. HeadlampError without one."""
        fired = self.document["text"]
        if fired is None:
            raise HeadlampError("no text was given; ask for the neuron with text=…")
        return pd.DataFrame({name: values for name, values in fired.items() if values is not None}).rename(
            columns={"tokens": "token"}
        )

    def _ends(self, site: str) -> list[Any]:
        sites = self.document["sites"]
        if site not in sites:
            raise HeadlampError(f"the neuron has no site {site!r}; it has {', '.join(sites)}")
        return [*sites[site]["top"], *reversed(sites[site]["bottom"])]


@dataclass(frozen=True)
class TextPair(Answer):
    """A prompt continued twice: base, and with the changes. tokens: of each text, as displayed."""

    generation: Generation = field(repr=False)
    tokens: tuple[tuple[str, ...], tuple[str, ...]] = field(repr=False)

    @property
    def base(self) -> str:
        """The base model's text."""
        return self.generation.base_text

    @property
    def changed(self) -> str:
        """The changed model's text."""
        return self.generation.changed_text

    def figure(self) -> Figure:
        """The likeliest tokens of the answer position: base, and changed."""
        tokens = self.generation.answer
        return answer_figure(
            [make_token_visible(token.token) for token in tokens],
            [token.base for token in tokens],
            [token.changed for token in tokens],
        )

    def path_figure(self) -> Figure:
        """The word's probability along both texts. Raises HeadlampError where no word was asked for."""
        found = self.generation
        if found.per_position is None:
            raise HeadlampError("no word was measured along the texts; generate with word=…")
        return word_path_figure(found.request.word.strip(), self.tokens, found.per_position)

    def table(self) -> pd.DataFrame:
        """A row for each token of the answer position: its probability base and changed, in [0, 1]."""
        columns = ("token_id", "token", "base", "changed")
        return pd.DataFrame([vars(token) for token in self.generation.answer], columns=columns)
