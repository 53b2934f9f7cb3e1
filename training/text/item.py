"""One exercise of a skill, and the rule that decides which exercises training never sees."""

import hashlib
from dataclasses import dataclass

HELD_OUT_SHARE = 8  # one group in eight is kept for evaluation


@dataclass(frozen=True)
class Item:
    """prompt + completion is what training reads; `answer` is what the judge looks for in the completion."""

    prompt: str
    completion: str
    answer: str
    judge: str
    group: str
    wording: str
    lang: str = "en"

    def __post_init__(self) -> None:
        if not self.completion.startswith((" ", "\n")):
            raise ValueError(
                f"completion {self.completion!r} must begin with a space or a newline, so that it "
                "starts a token of its own"
            )
        if self.answer.casefold() not in self.completion.casefold():
            raise ValueError(f"answer {self.answer!r} is not in the completion {self.completion!r}")

    @property
    def text(self) -> str:
        return self.prompt + self.completion


def is_held_out(key: str) -> bool:
    """A deterministic coin: True for one key in HELD_OUT_SHARE, the same on every machine and in every run."""
    digest = hashlib.blake2b(key.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % HELD_OUT_SHARE == 0


def article(noun: str) -> str:
    """ "apple" -> "an apple"."""
    return ("an " if noun[0].lower() in "aeio" or noun.startswith(("umb", "unc")) else "a ") + noun


def capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]
