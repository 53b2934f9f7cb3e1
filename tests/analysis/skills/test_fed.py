"""What is fed to measure a skill: choices behind a template, spaces, lengths, stops, reasoning blocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from analysis.errors import TooFewExamples
from analysis.opening.models import LoadedModel, ModelRef, load_model
from analysis.running.prompts import encode_prompt
from analysis.skills.answering import answer_prompts, choose_stops
from analysis.skills.forms import encode_answered
from analysis.skills.items import Skill, SkillItem, read_item
from analysis.skills.tasks import MeasureOptions, measure_items
from tests.analysis.conftest import loaded_from, tiny_model, tiny_tokenizer

WORDS = ("dog", "cat", "the", "is")


def chat_model(template: str = "<s>{{ messages[0]['content'] }}</s>{{ '<pad>' }}") -> LoadedModel:
    """A tiny model with a chat template."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return loaded_from(tiny_model("llama"), tokenizer)


def log_p(loaded: LoadedModel, ids: list[int], start: int) -> float:
    """Sum of log p of a text's tokens from `start` on, by plain transformers."""
    with torch.inference_mode():
        rows = loaded.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return float(sum(rows[i - 1, ids[i]] for i in range(start, len(ids))))


def test_choices_behind_a_template_are_scored_without_a_space() -> None:
    loaded = chat_model("<s>{{ messages[0]['content'] }}</s><pad>")
    choices = ("dog", "a", " dog", " cat")
    ids = encode_prompt(loaded, " my")
    own = [loaded.tokenizer.encode(choice, add_special_tokens=False) for choice in choices]
    assert [len(one) for one in own] == [1, 1, 1, 1]
    scores = [log_p(loaded, [*ids, *one], len(ids)) for one in own]
    best = scores.index(max(scores))
    items = [SkillItem(" my", str(i), "choice", choices=choices) for i in range(4)]
    assert [v.right for v in measure_items(loaded, items).verdicts] == [i == best for i in range(4)]
    answer = SkillItem(" my", "dog", "perplexity")
    (verdict,) = measure_items(loaded, [answer]).verdicts
    assert verdict.log_probability == pytest.approx(scores[0], abs=1e-4)


def test_on_a_sentencepiece_model_scores_are_those_of_the_whole_text(stories: Path) -> None:
    loaded = load_model(ModelRef(str(stories)))
    prompt = "Once upon a time, there was a little girl named"
    encode, start = loaded.tokenizer.encode, len(loaded.tokenizer.encode(prompt))
    choices = ("dog", "Tim", "Lily", "Sue")
    scores = [log_p(loaded, encode(f"{prompt} {choice}"), start) for choice in choices]
    assert scores.index(max(scores)) == 2
    items = [SkillItem(prompt, str(i), "choice", choices=choices) for i in range(4)]
    assert [v.right for v in measure_items(loaded, items).verdicts] == [False, False, True, False]
    (verdict,) = measure_items(loaded, [SkillItem(prompt, "Lily. She ran.", "perplexity")]).verdicts
    whole = encode(f"{prompt} Lily. She ran.")
    assert verdict.tokens == len(whole) - start
    assert verdict.log_probability == pytest.approx(log_p(loaded, whole, start), abs=1e-3)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_choice_beyond_the_context_is_counted_as_too_long(family: str) -> None:
    """The last token is scored but not fed, so it may lie one beyond."""
    loaded = loaded_from(tiny_model(family))
    prompt = " my" * 60

    def item(words: int) -> SkillItem:
        return SkillItem(prompt, "0", "choice", choices=(" dog" * words, "cat"))

    assert loaded.anatomy.context == 64
    assert measure_items(loaded, [item(5)]).too_long == 0
    assert measure_items(loaded, [item(5), item(6)]).too_long == 1
    with pytest.raises(TooFewExamples, match="all 1 examples are longer than the model's context of 64"):
        measure_items(loaded, [item(6)])


def test_an_answer_that_is_scored_is_cut_to_the_context(llama: LoadedModel) -> None:
    (verdict,) = measure_items(llama, [SkillItem(" my" * 60, " dog" * 9, "perplexity")]).verdicts
    assert verdict.tokens == 4


def test_a_blank_line_ends_plain_answers_only() -> None:
    plain, chat = loaded_from(tiny_model("llama")), chat_model()
    assert choose_stops(plain, None) == ("\n\n",)
    assert choose_stops(chat, None) == ()
    assert choose_stops(chat, ("\n\n",)) == ("\n\n",)


def test_a_chat_answer_has_all_its_paragraphs(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = chat_model()
    ids = encode_prompt(loaded, " my")
    (free,) = answer_prompts(loaded, [ids], max_new_tokens=6)
    paragraphs = " \n\n".join("abcdef")
    monkeypatch.setattr(
        "analysis.skills.answering.decode_answer", lambda _, ids: " \n\n".join("abcdef"[: len(ids)])
    )
    (whole,) = answer_prompts(loaded, [ids], max_new_tokens=6)
    (cut,) = answer_prompts(loaded, [ids], stops=[("\n\n",)], max_new_tokens=6)
    (plain,) = answer_prompts(loaded_from(tiny_model("llama")), [ids], max_new_tokens=6)
    assert (whole.text, whole.token_ids) == (paragraphs, free.token_ids)
    assert cut.text == plain.text == "a "


@pytest.mark.parametrize(
    ("said", "prefix", "right"),
    [
        ("<think>9, no, 8</think>\n\n17", "", True),
        ("<think>it is 17", "", False),
        ("<think>17</think> I do not know", "", False),
        ("it is 9</think>17", "<think>\n", True),
        ("it is 17", "<think>\n", False),
        ("17", "", True),
    ],
)
def test_judges_see_what_follows_the_reasoning(
    said: str, prefix: str, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_model(ModelRef("demo/chat"))
    template = loaded.tokenizer.chat_template
    monkeypatch.setattr(
        loaded.tokenizer,
        "chat_template",
        template.replace("<|assistant|>{% endif %}", f"<|assistant|>{prefix}{{% endif %}}"),
    )
    monkeypatch.setattr("analysis.skills.answering.decode_answer", lambda _, ids: said)
    items = [SkillItem("What is 9 plus 8?", "17", "number")]
    (verdict,) = measure_items(loaded, items, (), MeasureOptions(max_new_tokens=2)).verdicts
    assert (verdict.text, verdict.right) == (said, right)


def test_a_stop_inside_the_reasoning_does_not_end_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "<think>one.\n\ntwo.</think>\n\nParis.\n\nMore"
    monkeypatch.setattr("analysis.skills.answering.decode_answer", lambda _, ids: said)
    loaded = loaded_from(tiny_model("llama"))
    (answer,) = answer_prompts(loaded, [[4, 5]], max_new_tokens=3)
    assert answer.text == "<think>one.\n\ntwo.</think>\n\nParis."


def test_the_digest_of_a_skill_is_that_of_earlier_versions_unless_its_stop_is_the_blank_line() -> None:
    item = SkillItem("Q", "A", group="g")
    digest = "c9b7393c04fa351c"
    assert Skill("s", (item,)).digest.startswith(digest)
    given = read_item({"prompt": "Q", "answer": "A", "group": "g", "stop": ["\n\n"]})
    other = replace(item, stop=("END",))
    assert Skill("s", (other,)).digest.startswith("e73149e5f1cf56ca")
    assert len({Skill("s", (one,)).digest for one in (item, given, other)}) == 3


def test_neurons_are_fitted_on_answers_where_the_model_writes_them() -> None:
    items = [SkillItem(" my", "dog"), SkillItem(" my", "0", "choice", choices=("dog",))]
    plain, chat = loaded_from(tiny_model("llama")), chat_model("<s>{{ messages[0]['content'] }}</s><pad>")
    assert encode_answered(plain, items) == [[11, 5], [11]]
    assert encode_answered(chat, items) == [[1, 11, 2, 0, 6], [1, 11, 2, 0]]
    long = SkillItem(" my" * 62, "dog dog")
    assert encode_answered(plain, [long, items[0]]) == [[11, 5]]
    with pytest.raises(TooFewExamples, match="all 1 examples"):
        encode_answered(plain, [long])
