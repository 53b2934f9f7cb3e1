"""Stored questions as far as links show them: of every version, whatever is missing or odd at its default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from analysis.running.calibration import LONGEST


@dataclass(frozen=True)
class StoredSkill:
    """A skill of a question, by its name."""

    name: str = ""


@dataclass(frozen=True)
class StoredSubject:
    """What any run was about: a skill forgotten or fitted, a concept removed, a word, a prompt, a site."""

    forget: StoredSkill = field(default_factory=StoredSkill)
    skill: StoredSkill = field(default_factory=StoredSkill)
    concept: str = ""
    word: str = ""
    prompt: str = ""
    site: str = ""
    norm: str = ""


@dataclass(frozen=True)
class StoredMap:
    """A map of the neurons, or a search in one."""

    site: str | None = None
    norm: str | None = None


@dataclass(frozen=True)
class StoredGeneration:
    """A pair of texts. clamps: each as typed, with its raw value."""

    prompt: str = ""
    answer_prefix: str | None = None
    clamps: tuple[tuple[Any, ...], ...] = ()
    system: str | None = None
    turns: tuple[tuple[str, str], ...] = ()
    raw: bool = False
    word: str | None = None
    fold_case: bool = False
    max_new_tokens: int | None = None
    temperature: float | None = None


@dataclass(frozen=True)
class StoredSettings:
    """How a finding was measured. versions: of the programs, by name."""

    temperature: float | None = None
    max_new_tokens: int | None = None
    device: str | None = None
    dtype: str | None = None
    versions: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class StoredRecipe:
    """The recipe that a finding holds."""

    recipe: Any = None


@dataclass(frozen=True)
class StoredWord:
    """Levers or a dose curve of a word."""

    word: str = ""
    neurons: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoredExperts:
    """A profile of the experts, or a pruning of some. text: its digest; groups: sets of parts, the chosen one
    first.
    """

    text: str | None = None
    split: bool = False
    window: int | None = None
    released: bool = False
    draws: int | None = None
    groups: tuple[tuple[tuple[str, ...], ...], ...] = ()

    @property
    def shared_text(self) -> str | None:
        """The text, where profile and evaluation share it."""
        return self.text if self.split else None

    @property
    def chosen_window(self) -> int | None:
        """The length of a window, where one was asked for."""
        return None if self.window == LONGEST else self.window

    @property
    def pruned(self) -> tuple[str, ...]:
        """The chosen set."""
        return next(iter(next(iter(self.groups), ())), ())


@dataclass(frozen=True)
class StoredConcept:
    """A concept that was removed."""

    concept: str = ""


@dataclass(frozen=True)
class StoredKeySpace:
    """A skill whose key space was fitted."""

    skill: StoredSkill = StoredSkill()


@dataclass(frozen=True)
class StoredUnlearning:
    """A skill that was forgotten. measure: `box`, as it was before there was a choice."""

    forget: StoredSkill = StoredSkill()
    retain: tuple[StoredSkill, ...] = ()
    methods: tuple[str, ...] = ()
    layers: tuple[int, ...] | str | None = None
    check: str | None = None
    shares: tuple[float, ...] = ()
    split_seed: int | None = None
    seed: int | None = None
    limit: int | None = None
    max_new_tokens: int | None = None
    tests: str | None = None
    controls: bool | None = None
    robustness: bool | None = None
    near: tuple[StoredSkill, ...] = ()
    unlisted: tuple[StoredSkill, ...] = ()
    mmlu: tuple[StoredSkill, ...] = ()
    measure: str | None = "box"
    key: str | None = None
    wrap: bool | None = None
    as_released: bool | None = None
    rivals: bool | None = None
