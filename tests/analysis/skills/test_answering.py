"""Batches answer as single prompts do, with and without a pad token; verdicts, likelihoods, lengths."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from analysis.errors import HeadlampError, JudgeError, TooFewExamples
from analysis.intervening.clamps import parse_clamp
from analysis.intervening.interventions import intervene
from analysis.opening.models import LoadedModel
from analysis.running.batches import make_batches, run_batch, takes_padding
from analysis.skills.answering import answer_prompts
from analysis.skills.forms import Form
from analysis.skills.items import SkillItem
from analysis.skills.likelihoods import score_continuations, score_next_tokens
from analysis.skills.tasks import MeasureOptions, measure_items
from tests.analysis.conftest import loaded_from, tiny_model
from tests.analysis.skills_made import make_skill, reading_tokenizer
from tests.analysis.unlearning.guards.guards_made import guard_around

PROMPTS = [[1, *range(10, 10 + n)] for n in (2, 9, 5, 2, 14, 7, 1)]


@pytest.mark.parametrize("pad", [True, False])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mixtral"])
def test_a_batch_answers_as_each_prompt_alone(family: str, pad: bool) -> None:
    loaded = loaded_from(tiny_model(family), reading_tokenizer(pad))
    assert takes_padding(loaded)
    together = answer_prompts(loaded, PROMPTS, max_new_tokens=6, batch_size=32)
    alone = answer_prompts(loaded, PROMPTS, max_new_tokens=6, batch_size=1)
    assert [a.token_ids for a in together] == [a.token_ids for a in alone]
    assert all(a.token_ids for a in alone)


def test_answers_are_those_of_feeding_the_whole_text_again(llama: LoadedModel) -> None:
    (answer,) = answer_prompts(llama, [PROMPTS[1]], max_new_tokens=5)
    ids = list(PROMPTS[1])
    for token in answer.token_ids:
        with torch.inference_mode():
            assert int(llama.model(torch.tensor([ids])).logits[0, -1].argmax()) == token
        ids.append(token)


def test_accuracy_is_the_same_in_batches_of_1_and_of_32(llama: LoadedModel) -> None:
    skill = make_skill("s")
    found = answer_prompts(llama, [llama.tokenizer.encode(i.prompt) for i in skill.items], max_new_tokens=4)
    items = [  # half of them right: their answer is what the model says
        SkillItem(i.prompt, a.text.strip() if n % 2 else "nowhere", group=i.group)
        for n, (i, a) in enumerate(zip(skill.items, found, strict=True))
        if a.text.strip()
    ]
    rights = [
        [
            v.right
            for v in measure_items(
                llama, items, (), MeasureOptions(max_new_tokens=4, batch_size=size)
            ).verdicts
        ]
        for size in (1, 32)
    ]
    assert rights[0] == rights[1]
    assert 0 < sum(rights[0]) < len(items)


def test_a_model_that_reads_its_padding_gets_batches_of_one_length(
    llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = llama.model.forward

    def deaf(*args: Any, attention_mask: Any = None, position_ids: Any = None, **kwargs: Any) -> Any:
        return plain(*args, **kwargs)

    monkeypatch.setattr(llama.model, "forward", deaf)
    assert not takes_padding(llama)
    found = list(make_batches(llama, PROMPTS))
    assert all(batch.mask is None for batch in found)
    assert sorted(i for batch in found for i in batch.indices) == list(range(len(PROMPTS)))
    assert max(len(batch.indices) for batch in found) == 2


def test_an_answer_ends_at_its_stop_or_at_the_end_of_text(llama: LoadedModel) -> None:
    (free,) = answer_prompts(llama, [PROMPTS[1]], max_new_tokens=8)
    stop = llama.vocabulary.texts[free.token_ids[3]]
    (cut,) = answer_prompts(llama, [PROMPTS[1]], max_new_tokens=8, stops=[[stop]])
    assert cut.text == free.text.split(stop)[0]
    assert len(cut.token_ids) <= 4
    llama.model.generation_config.eos_token_id = [free.token_ids[2]]
    (ended,) = answer_prompts(llama, [PROMPTS[1]], max_new_tokens=8)
    assert ended.token_ids == free.token_ids[:3]


def test_an_answer_ends_with_the_context(llama: LoadedModel) -> None:
    (answer,) = answer_prompts(llama, [[1] + [20] * 60], max_new_tokens=40)
    assert len(answer.token_ids) == llama.anatomy.context - 61


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_row_that_is_done_at_the_contexts_end_waits_for_the_others(family: str) -> None:
    loaded = loaded_from(tiny_model(family), reading_tokenizer(True))
    prompts = [[1] + [20] * (loaded.anatomy.context - 3), [1, 20, 21]]
    together = answer_prompts(loaded, prompts, max_new_tokens=12)
    alone = answer_prompts(loaded, prompts, max_new_tokens=12, batch_size=1)
    assert [len(answer.token_ids) for answer in together] == [2, 12]
    assert [a.token_ids for a in together] == [a.token_ids for a in alone]


def test_scopes_in_a_padded_batch_are_those_of_each_row(llama: LoadedModel) -> None:
    held = [parse_clamp(f"L0.N3:key:set:9@{scope}").resolve(largest=1, mean=0) for scope in ("last", "1-2")]
    for clamp in held:
        together = {
            index: row
            for batch in make_batches(llama, PROMPTS)
            for index, row in zip(batch.indices, run_batch(llama, batch, [clamp])[0], strict=True)
        }
        for index, ids in enumerate(PROMPTS):
            positions = torch.arange(len(ids))[None]
            with intervene(llama, [clamp], positions=positions, prompt_length=len(ids)), torch.no_grad():
                alone = llama.model(torch.tensor([ids])).logits[0, -1:]
            assert torch.allclose(together[index], alone, atol=1e-4)


def test_log_probabilities_are_those_of_a_plain_forward_pass(llama: LoadedModel) -> None:
    continuations = [[30 + i, 40, 41][: 1 + i % 3] for i in range(len(PROMPTS))]
    found = score_continuations(llama, PROMPTS, continuations)
    for prompt, continuation, one in zip(PROMPTS, continuations, found, strict=True):
        with torch.inference_mode():
            log_p = llama.model(torch.tensor([[*prompt, *continuation]])).logits[0].log_softmax(-1)
        rows = log_p[len(prompt) - 1 : -1]
        assert one.log_probability == pytest.approx(
            sum(float(row[token]) for row, token in zip(rows, continuation, strict=True)), abs=1e-4
        )
        assert one.count == len(continuation)


def test_a_guard_of_each_step_sees_what_generation_feeds(llama: LoadedModel) -> None:
    """Not the last token of a continuation, which is only scored; but all of a text that is the query."""
    text = [1, 20, 21, 22, 23]
    guard = guard_around(llama, [0], (1,), prompts=[text], check_at="each_step")
    for prompt, rest, asked, refused in (
        (text[:3], text[3:], None, False),
        (text[:3], [*text[3:], 30], None, True),
        (text[:1], text[1:], [5], True),
    ):
        (found,) = score_continuations(llama, [prompt], [rest], [guard], asked=asked)
        assert found.abstained is refused


def test_next_token_distributions_come_in_the_prompts_order(llama: LoadedModel) -> None:
    log_p, refused = score_next_tokens(llama, PROMPTS, batch_size=3)
    assert not refused.any()
    for row, ids in zip(log_p, PROMPTS, strict=True):
        with torch.inference_mode():
            alone = llama.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        assert torch.allclose(row, alone, atol=1e-4)


def _nth_best(loaded: LoadedModel, ids: list[int], n: int) -> int:
    log_p, _ = score_next_tokens(loaded, [ids])
    return int(log_p[0, 5:].topk(n).indices[-1]) + 5


def test_a_choice_is_the_likeliest_in_sum_or_per_token(llama: LoadedModel) -> None:
    prompt = " w10 w11"
    ids = llama.tokenizer.encode(prompt)
    likely = answer_prompts(llama, [ids], max_new_tokens=6)[0].text.strip()  # best per token, but long
    choices = (llama.vocabulary.texts[_nth_best(llama, ids, 4)].strip(), likely, "w33")
    own = [llama.tokenizer.encode(f" {c}", add_special_tokens=False) for c in choices]
    scores = [one.log_probability for one in score_continuations(llama, [ids] * 3, own)]
    means = [score / len(c) for score, c in zip(scores, own, strict=True)]
    assert scores.index(max(scores)) != means.index(max(means))
    for per_token, best in ((False, scores.index(max(scores))), (True, means.index(max(means)))):
        right = [
            measure_items(
                llama,
                [SkillItem(prompt, str(i), "choice", choices=choices)],
                (),
                MeasureOptions(per_token=per_token),
            )
            .verdicts[0]
            .right
            for i in range(3)
        ]
        assert right == [i == best for i in range(3)]


def test_perplexity_is_that_of_the_answer_or_of_the_text_itself(llama: LoadedModel) -> None:
    items = [SkillItem(" w10 w11", "w20 w21", "perplexity"), SkillItem(" w10 w11 w20 w21", "", "perplexity")]
    of_answer, of_text = measure_items(llama, items).verdicts
    ids = llama.tokenizer.encode(" w10 w11 w20 w21")
    with torch.inference_mode():
        log_p = llama.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    own = [float(log_p[i, ids[i + 1]]) for i in range(len(ids) - 1)]
    assert of_text.log_probability == pytest.approx(sum(own), abs=1e-4)
    assert of_answer.log_probability == pytest.approx(sum(own[-2:]), abs=1e-4)
    assert (of_text.tokens, of_answer.tokens) == (len(own), 2)


def test_shots_and_prefix_come_before_the_question() -> None:
    shot = SkillItem("Q: a", "b")
    assert Form((shot,), "Hi. ").prompt(SkillItem("Q: c", "d")) == "Hi. Q: a b\n\nQ: c"


def test_what_does_not_fit_is_left_out_and_counted(llama: LoadedModel) -> None:
    long, short = SkillItem(" w10" * 80, "x"), SkillItem(" w10", "x")
    assert measure_items(llama, [long, short]).too_long == 1
    with pytest.raises(TooFewExamples, match="all 1 examples are longer than the model's context of 64"):
        measure_items(llama, [long])


def test_code_is_not_run_unless_asked_for(llama: LoadedModel) -> None:
    with pytest.raises(JudgeError, match="which is off; allow it with --tests"):
        measure_items(llama, [SkillItem(" w10", "", "tests", tests=("assert True",))])


@pytest.mark.parametrize("settings", [{"max_new_tokens": 0}, {"batch_size": 0}])
def test_sizes_out_of_range_are_refused(llama: LoadedModel, settings: dict[str, Any]) -> None:
    with pytest.raises(HeadlampError, match="choose 1 to 4096"):
        answer_prompts(llama, PROMPTS, **settings)


def test_numbers_that_blow_up_are_told(llama: LoadedModel) -> None:
    clamp = replace(parse_clamp("L0.N3:key:set:1"), raw=1e38)
    llama.parameters["model.layers.0.mlp.down_proj.weight"][:, 3] = 1e4
    with pytest.raises(HeadlampError, match="NaN or infinity"):
        answer_prompts(llama, PROMPTS, [clamp])
