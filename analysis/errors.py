"""Everything analysis refuses, as one tree. Each message says what, why and the way out.

HeadlampError
├── ModelError
│   ├── ModelNotFound       no such bundled name, folder or Hub id
│   │   └── NotFetched      a Hub id that is not on this machine, and nobody said to fetch it
│   ├── FetchFailed         a file of a Hub model that did not come
│   ├── NotAModel           a folder without config.json or without weights
│   ├── UnsafeWeights       only pickled weights, or code of its own
│   ├── NotCausal           an encoder, or an encoder–decoder
│   ├── NoTokenizer         nothing turns text into its tokens
│   ├── UnknownStructure    anatomy could not find the head or the FFN blocks
│   ├── ContractBroken      found, but the description does not reproduce the model
│   └── NotComparable       two models that have not the same neurons or tokens
├── AddressError
│   ├── BadAddress          not of the form L12.N3405
│   └── AddressOutOfRange   well formed, but this model has no such neuron
├── ClampError              a clamp that cannot be read, or cannot be applied
├── ExpertError             experts that cannot be read, or cannot be pruned so
├── RecipeError             a recipe document that cannot be read, or is for another model
├── SkillError              a skill, or a way to forget it, that is of no use
│   ├── BadSkillFile        not in any layout known, or damaged
│   ├── TooFewExamples      not enough of them to fit or to measure anything
│   ├── JudgeError          no such judge, or one that refuses to judge here
│   └── HarnessError        lm-evaluation-harness, or a task of it, that cannot be used here
└── TextError
    ├── EmptyPrompt         nothing to read
    ├── PromptTooLong       longer than the model's context
    └── UnknownWord         not one token of this model's vocabulary
"""

from __future__ import annotations


class HeadlampError(Exception):
    """Base of all errors that are ours to explain; anything else is a bug."""


class ModelError(HeadlampError):
    """A model cannot be opened."""


class ModelNotFound(ModelError):
    """No such bundled name, folder or Hub id."""


class NotFetched(ModelNotFound):
    """A Hub id that is not on this machine, and nobody said to fetch it."""


class FetchFailed(ModelError):
    """A file of a Hub model that did not come."""


class NotAModel(ModelError):
    """A folder without config.json or without weights."""


class UnsafeWeights(ModelError):
    """Only pickled weights, or a model that needs code of its own."""


class NotCausal(ModelError):
    """An encoder, or an encoder–decoder: it has no next-token head over a prefix."""


class NoTokenizer(ModelError):
    """The model comes without a tokenizer that could be loaded."""


class UnknownStructure(ModelError):
    """Anatomy could not find the head or the FFN blocks."""


class ContractBroken(ModelError):
    """Anatomy's description does not reproduce the model's own numbers."""


class NotComparable(ModelError):
    """Two models that have not the same neurons or tokens."""


class AddressError(HeadlampError):
    """A neuron's address is of no use."""


class BadAddress(AddressError):
    """Not of the form L12.N3405, L1.E68.N12 or L8.S0.N7."""


class AddressOutOfRange(AddressError):
    """Well formed, but this model has no such neuron."""


class ClampError(HeadlampError):
    """A clamp that cannot be read, or cannot be applied."""


class ExpertError(HeadlampError):
    """Experts that cannot be read, or cannot be pruned so."""


class RecipeError(HeadlampError):
    """A recipe document that cannot be read, or is for another model."""


class SkillError(HeadlampError):
    """A skill, or a way to forget it, that is of no use."""


class BadSkillFile(SkillError):
    """Not in any layout known, or damaged."""


class TooFewExamples(SkillError):
    """Not enough examples to fit or to measure anything."""


class JudgeError(SkillError):
    """No such judge, or one that refuses to judge here."""


class HarnessError(SkillError):
    """lm-evaluation-harness is not installed, or a task of it cannot be used here."""


class TextError(HeadlampError):
    """A text the model cannot take."""


class EmptyPrompt(TextError):
    """Nothing to read."""


class PromptTooLong(TextError):
    """Longer than the model's context."""


class UnknownWord(TextError):
    """Not one token of this model's vocabulary."""
