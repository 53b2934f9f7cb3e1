"""Skills in memory, and a tokenizer that reads every text."""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast

from analysis.skills.items import Skill, SkillItem
from tests.analysis.conftest import tiny_tokenizer


def reading_tokenizer(pad: bool = True) -> PreTrainedTokenizerFast:
    """Words w0 … w80, each one token; without a pad token where asked."""
    tokenizer = tiny_tokenizer()
    if not pad:
        tokenizer.pad_token = None
    return tokenizer


def make_skill(name: str, groups: int = 40, words: tuple[int, int] = (10, 40), wordings: int = 4) -> Skill:
    """Prompts of words in a range; `wordings` ways of asking for each of the groups' facts."""
    low, high = words
    span = high - low
    items = [
        SkillItem(
            f" w{low + group % span} w{low + (group * 7 + 3) % span} w{low + (group * 3) // span} w{wording}",
            f"w{low + group % span}",
            group=f"{name}-{group}",
            wording=f"{name}-way{wording}",
        )
        for group in range(groups)
        for wording in range(wordings)
    ]
    return Skill(name, tuple(items))
