"""What a skill's boxes refuse at one α: the answer, its JSON, and its keeping as a finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from analysis.opening.models import LoadedModel
from analysis.skills.metrics import wilson_interval
from analysis.unlearning.guards.key_boxes import SLACK
from analysis.unlearning.guards.key_spaces import KeySpace, TriedQuery
from store import Finding, Store
from workbench.keeping import describe_run, keep_evidence
from workbench.records import read_odd_record, write_record
from workbench.skills.key_space import KeySpaceQuestion


@dataclass(frozen=True)
class RefusedSet:
    """The share of a set's queries that the boxes refuse, in [0, 1], with its 95 % interval; refused: None
    without a query.
    """

    set: str = ""
    queries: int | None = None
    refused: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class LocatedQuery:
    """A query among the boxes. depth: the smallest α that refuses it; neurons: in which it is furthest out,
    as shares of a box's half width.
    """

    depth: float | None = None
    inside: bool = False
    neurons: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SkillAnswer:
    """What the boxes of some layers refuse of each set at α. layer: the one whose keys are shown; compared:
    name → digest; query: of prompt, None if none was tried; opened: how the model was, see `describe_run`.
    """

    run: str = ""
    skill: str | None = None
    digest: str = ""
    compared: Mapping[str, str] | None = None
    limit: int = 0
    seed: int = 0
    layer: int | None = None
    layers: tuple[int, ...] = ()
    alpha: float | None = None
    probes: int = 0
    part: str | None = None
    sets: tuple[RefusedSet, ...] = ()
    prompt: str | None = None
    query: LocatedQuery | None = None
    opened: Mapping[str, Any] = field(default_factory=dict)

    def to_document(self) -> dict[str, Any]:
        """As exported and kept; `read_skill_answer` reads it."""
        told = write_record(replace(self, opened={}))
        without = {"opened", "prompt", "query"} if self.query is None else {"opened"}
        return {name: value for name, value in told.items() if name not in without} | dict(self.opened)


def read_skill_answer(evidence: Mapping[str, Any]) -> SkillAnswer:
    """The answer in a finding's evidence; what is missing or odd is empty."""
    sets = read_odd_record(_Sets, evidence).sets
    each = tuple(read_odd_record(RefusedSet, one) for one in sets if isinstance(one, Mapping))
    return read_odd_record(SkillAnswer, {**evidence, "sets": each})


@dataclass(frozen=True)
class _Sets:
    sets: tuple[Any, ...] = ()


def keep_key_space(
    loaded: LoadedModel,
    store: Store,
    found: SkillAnswer,
    *,
    title: str,
    note: str = "",
    tags: Sequence[str] = (),
) -> Finding:
    """Keep an answer as a finding. Raises HeadlampError for a blank title."""
    return keep_evidence(loaded, store, "skill", found.to_document(), title, note, tags)


def describe_key_space(
    loaded: LoadedModel,
    question: KeySpaceQuestion,
    run: str,
    space: KeySpace,
    layers: Sequence[int],
    alpha: float,
    *,
    layer: int,
    tried: tuple[str, TriedQuery] | None = None,
) -> SkillAnswer:
    """What the boxes of some layers refuse of each set at α, with 95 % intervals; and why they refuse one
    query or not.

    layer: the one whose keys are shown.
    """
    shares = zip(space.names, space.count_refused(layers, alpha), strict=True)
    return SkillAnswer(
        run=run,
        skill=question.skill.name,
        digest=question.skill.digest,
        compared={source.name: source.digest for source in question.compared},
        limit=question.limit,
        seed=question.split_seed,
        layer=layer,
        layers=tuple(layers),
        alpha=alpha,
        probes=space.layers[layers[0]].box.n,
        part="validation",
        sets=tuple(_describe_refused(name, share, count) for name, (share, count) in shares),
        prompt=None if tried is None else tried[0],
        query=None if tried is None else _locate_query(tried[1], layers, alpha),
        opened=describe_run(loaded),
    )


def _describe_refused(name: str, share: float, count: int) -> RefusedSet:
    return RefusedSet(name, count, share if count else None, wilson_interval(share, count))


def _locate_query(tried: TriedQuery, layers: Sequence[int], alpha: float) -> LocatedQuery:
    depth = max(tried.depth[layer] for layer in layers)
    neurons = {f"L{layer}.N{n}": out for layer in layers for n, out in tried.deciding[layer]}
    return LocatedQuery(depth, depth <= alpha * SLACK, neurons)
