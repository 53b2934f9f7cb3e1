"""The errors of analysis as one tree. Each message says what failed, why, and what to do.

HeadlampError
├── ModelError
│   ├── ModelNotFound       no such bundled name, folder or Hub id
│   │   └── NotFetched      a Hub id that is not on this machine, and fetching was not requested
│   ├── FetchFailed         a file of a Hub model could not be fetched
│   ├── NotAModel           a folder without config.json or without weights
│   ├── UnsafeWeights       only pickled weights, or custom code
│   ├── NotCausal           an encoder, or an encoder–decoder
│   ├── NoTokenizer         no tokenizer could be loaded
│   ├── UnknownStructure    anatomy could not find the head or the FFN blocks
│   ├── ContractBroken      found, but the description does not reproduce the model
│   └── NotComparable       two models with different neurons or tokens
├── AddressError
│   ├── BadAddress          not of the form L12.N3405
│   └── AddressOutOfRange   well formed, but this model has no such neuron
├── ClampError              a clamp that cannot be read, or cannot be applied
├── ExpertError             experts that cannot be read, or cannot be pruned this way
├── RecipeError             a recipe document that cannot be read, or is for another model
├── SkillError              a skill, or an unlearning method, that cannot be used
│   ├── BadSkillFile        unknown layout, or damaged
│   ├── TooFewExamples      not enough examples to fit or measure
│   ├── JudgeError          unknown judge, or one that cannot run here
│   └── HarnessError        lm-evaluation-harness, or a task of it, that cannot be used here
└── TextError
    ├── EmptyPrompt         empty prompt
    ├── PromptTooLong       longer than the model's context
    └── UnknownWord         a word that this model's tokens cannot write, or not as one token
"""

from __future__ import annotations


class HeadlampError(Exception):
    """Base class of our own errors; any other exception is a bug."""


class ModelError(HeadlampError):
    """A model cannot be opened."""


class ModelNotFound(ModelError):
    """No such bundled name, folder or Hub id."""


class NotFetched(ModelNotFound):
    """A Hub id that is not on this machine, and fetching was not requested."""


class FetchFailed(ModelError):
    """A file of a Hub model could not be fetched."""


class NotAModel(ModelError):
    """A folder without config.json or without weights."""


class UnsafeWeights(ModelError):
    """Only pickled weights, or a model with custom code."""


class NotCausal(ModelError):
    """An encoder, or an encoder–decoder: it has no next-token head over a prefix."""


class NoTokenizer(ModelError):
    """The model has no tokenizer that could be loaded."""


class UnknownStructure(ModelError):
    """The head or the FFN blocks could not be found."""


class ContractBroken(ModelError):
    """Anatomy's description does not reproduce the model's own numbers."""


class NotComparable(ModelError):
    """Two models with different neurons or tokens."""


class AddressError(HeadlampError):
    """A neuron address that cannot be used."""


class BadAddress(AddressError):
    """Not of the form L12.N3405, L1.E68.N12 or L8.S0.N7."""


class AddressOutOfRange(AddressError):
    """Well formed, but this model has no such neuron."""


class ClampError(HeadlampError):
    """A clamp that cannot be read, or cannot be applied."""


class ExpertError(HeadlampError):
    """Experts that cannot be read, or cannot be pruned this way."""


class RecipeError(HeadlampError):
    """A recipe document that cannot be read, or is for another model."""


class SkillError(HeadlampError):
    """A skill, or an unlearning method, that cannot be used."""


class BadSkillFile(SkillError):
    """An unknown layout, or a damaged file."""


class TooFewExamples(SkillError):
    """Not enough examples to fit or measure."""


class JudgeError(SkillError):
    """An unknown judge, or one that cannot run here."""


class HarnessError(SkillError):
    """lm-evaluation-harness is not installed, or a task of it cannot be used here."""


class TextError(HeadlampError):
    """A text the model cannot take."""


class EmptyPrompt(TextError):
    """An empty prompt."""


class PromptTooLong(TextError):
    """Longer than the model's context."""


class UnknownWord(TextError):
    """A word that this model's tokens cannot write, or not as one token where that is needed."""


def first_line(error: Exception) -> str:
    """The first line of an external error's message, with the next where it ends in a colon; at most 300
    characters.
    """
    lines = (str(error).strip() or type(error).__name__).splitlines()
    shown = f"{lines[0]} {lines[1].strip()}" if lines[0].endswith(":") and len(lines) > 1 else lines[0]
    return shown[:300]
