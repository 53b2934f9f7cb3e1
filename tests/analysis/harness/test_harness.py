"""lm-evaluation-harness on a changed model: its own numbers without changes, ours with them."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lm_eval", reason="lm_eval is not installed: pip install -r requirements-evaluate.txt")

from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from analysis.anatomy.addresses import parse_address
from analysis.errors import TextError
from analysis.harness.measuring import HarnessResult, measure_tasks, open_harness_tasks
from analysis.intervening.clamps import Clamp
from analysis.intervening.interventions import Change
from analysis.opening.models import LoadedModel
from analysis.running.probing import probe
from analysis.skills.answering import answer_prompts
from analysis.skills.likelihoods import score_continuations
from analysis.unlearning.guards.key_boxes import dense_block, fit_boxes
from analysis.unlearning.guards.key_guards import KeyGuard
from tests.analysis.conftest import loaded_from, tiny_model, tiny_tokenizer
from tests.analysis.harness.harness_files import (
    CHOICE,
    GENERATE,
    GREEDY,
    ROLLING,
    documents,
    task_file,
    words,
)

BRIER = "  - {{metric: brier_score, aggregation: brier_score, higher_is_better: false}}\nmetadata:"
CHANGE = Clamp(parse_address("L1.N3"), "key", "add", 4.0, raw=4.0)


def measured(loaded: LoadedModel, path: Path, changes: Sequence[Change] = (), **how: Any) -> HarnessResult:
    with open_harness_tasks(str(path), limit=how.get("limit", 0), shots=how.pop("shots", None)) as tasks:
        return measure_tasks(loaded, tasks, changes, **how)


def own_numbers(loaded: LoadedModel, path: Path, **how: Any) -> Any:
    """What the harness itself says of the model."""
    lm = HFLM(pretrained=loaded.model, tokenizer=copy.deepcopy(loaded.tokenizer), batch_size=4)
    return simple_evaluate(
        model=lm, tasks=[str(path)], task_manager=TaskManager(include_defaults=False), log_samples=True, **how
    )


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness's own data sets go into the test's folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


def refusing(loaded: LoadedModel, prompts: Sequence[str], alpha: float = 1.0) -> KeyGuard:
    """A guard whose box holds the prompts."""
    ids = [loaded.tokenizer.encode(prompt) for prompt in prompts]
    moments = probe(loaded, ids, {"key": [dense_block(loaded, 1)]})
    return KeyGuard(fit_boxes(moments, [1]), alpha, refusal="w1 w2")


@pytest.mark.parametrize("template", [CHOICE, GENERATE, GREEDY])
def test_without_changes_the_numbers_are_the_harness_s_own(
    llama: LoadedModel, tmp_path: Path, template: str
) -> None:
    records = documents()
    for number, record in enumerate(records):  # some answers are the likeliest, some begin as those do
        ids = llama.tokenizer.encode(record["question"])
        (said,) = answer_prompts(llama, [ids], max_new_tokens=1 + number % 2)
        record["answer"] = said.text + words(3) * (number % 3 == 0)
    path = task_file(tmp_path, template, records)
    ours = measured(llama, path).document["results"]
    theirs = own_numbers(llama, path)["results"]
    assert list(ours) == list(theirs)
    for name, numbers in theirs.items():
        assert set(ours[name]) == set(numbers)
        for metric, value in numbers.items():
            same = value if isinstance(value, str) else pytest.approx(value, rel=1e-4)
            assert ours[name][metric] == same, metric


def test_a_long_text_is_read_in_the_harness_s_own_windows(llama: LoadedModel, tmp_path: Path) -> None:
    texts = [{"question": words(*range(n))} for n in (5, 63, 64, 65, 130)]
    path = task_file(tmp_path, ROLLING, texts)
    ours = measured(llama, path).document["results"]["tiny_rolling"]
    theirs = own_numbers(llama, path)["results"]["tiny_rolling"]
    for metric in ("word_perplexity,none",):
        assert ours[metric] == pytest.approx(theirs[metric], rel=1e-4)


def test_generated_answers_are_the_harness_s_own(llama: LoadedModel, tmp_path: Path) -> None:
    """Each document's answer is what the plain model says, so that every one of them is right."""
    plain = own_numbers(llama, task_file(tmp_path, GENERATE, documents()))
    said = [sample["resps"][0][0] for sample in plain["samples"]["tiny_generate"]]
    assert len(set(said)) > 3
    records = [doc | {"answer": text} for doc, text in zip(documents(), said, strict=True)]
    path = task_file(tmp_path, GENERATE, records)
    assert measured(llama, path).document["results"]["tiny_generate"]["exact_match,none"] == 1.0
    changed = measured(llama, path, [CHANGE]).document["results"]["tiny_generate"]["exact_match,none"]
    assert changed < 1.0


def test_a_clamp_acts_as_it_does_in_our_own_likelihoods(llama: LoadedModel, tmp_path: Path) -> None:
    """The gold choice is what the changed model likes best, so that all are right under the change."""
    records = documents()
    for number, record in enumerate(records):
        record["options"] = [words(number + add) for add in (9, 21, 40)]
        prompt = llama.tokenizer.encode(record["question"])
        options = [llama.tokenizer.encode(text, add_special_tokens=False) for text in record["options"]]
        scores = [one.log_probability for one in score_continuations(llama, [prompt] * 3, options, [CHANGE])]
        record["gold"] = scores.index(max(scores))
    path = task_file(tmp_path, CHOICE, records)
    assert measured(llama, path, [CHANGE]).document["results"]["tiny_choice"]["acc,none"] == 1.0
    assert measured(llama, path).document["results"]["tiny_choice"]["acc,none"] < 1.0


def test_a_clamp_acts_as_it_does_in_our_own_answers(llama: LoadedModel, tmp_path: Path) -> None:
    prompts = [llama.tokenizer.encode(doc["question"]) for doc in documents()]
    own = answer_prompts(llama, prompts, [CHANGE], max_new_tokens=5)
    records = [doc | {"answer": a.text} for doc, a in zip(documents(), own, strict=True)]
    found = measured(llama, task_file(tmp_path, GENERATE, records), [CHANGE])
    assert found.document["results"]["tiny_generate"]["exact_match,none"] == 1.0


@pytest.mark.parametrize("scope", ["prompt", "last"])
def test_a_scope_ends_where_the_prompt_ends(llama: LoadedModel, tmp_path: Path, scope: str) -> None:
    from analysis.intervening.clamps import parse_scope

    clamp = Clamp(parse_address("L0.N3"), "key", "add", 6.0, scope=parse_scope(scope), raw=6.0)
    records = documents(12)
    path = task_file(tmp_path, GREEDY, records)
    prompts = [llama.tokenizer.encode(doc["question"]) for doc in records]
    answers_ = [llama.tokenizer.encode(doc["answer"], add_special_tokens=False) for doc in records]
    own = score_continuations(llama, prompts, answers_, [clamp])
    wanted = math.exp(-sum(one.log_probability for one in own) / len(own))
    found = measured(llama, path, [clamp]).document["results"]["tiny_greedy"]
    assert found["perplexity,none"] == pytest.approx(wanted, rel=1e-5)


def test_what_a_guard_refuses_is_wrong_whichever_choice_is_right(llama: LoadedModel, tmp_path: Path) -> None:
    records = documents(30)
    path = task_file(tmp_path, CHOICE.replace("metadata:", BRIER), records)
    guard = refusing(llama, [doc["question"] for doc in records], alpha=100.0)
    found = measured(llama, path, [guard])
    assert found.refused == {"tiny_choice": 30}
    assert found.document["results"]["tiny_choice"]["acc,none"] == 0.0
    assert found.document["results"]["tiny_choice"]["acc_norm,none"] == 0.0
    assert found.document["results"]["tiny_choice"]["brier_score,none"] == pytest.approx(2.0)


def test_only_what_is_refused_counts_as_wrong(llama: LoadedModel, tmp_path: Path) -> None:
    """A guard fitted on a part of the documents; the others keep the verdict they have without it."""
    records = documents(60)
    path = task_file(tmp_path, CHOICE, records)
    guard = refusing(llama, [doc["question"] for doc in records[:30]], alpha=0.9)
    prompts = [llama.tokenizer.encode(doc["question"]) for doc in records]
    right = refused = 0
    for prompt, record in zip(prompts, records, strict=True):
        options = [llama.tokenizer.encode(text, add_special_tokens=False) for text in record["options"]]
        own = score_continuations(llama, [prompt] * 3, options, [guard])
        scores = [one.log_probability for one in own]
        refused += own[0].abstained
        right += not own[0].abstained and scores.index(max(scores)) == record["gold"]
    assert 5 < refused < 55
    found = measured(llama, path, [guard])
    assert found.refused == {"tiny_choice": refused}
    assert found.document["results"]["tiny_choice"]["acc,none"] == pytest.approx(right / 60)


def test_a_refused_answer_is_wrong_even_where_the_refusal_is_what_was_asked_for(
    llama: LoadedModel, tmp_path: Path
) -> None:
    records = [doc | {"answer": " w1 w2"} for doc in documents(30)]
    guard = refusing(llama, [doc["question"] for doc in records], alpha=100.0)
    found = measured(llama, task_file(tmp_path, GENERATE, records), [guard])
    assert found.refused == {"tiny_generate": 30}
    assert found.document["results"]["tiny_generate"]["exact_match,none"] == 0.0


def test_a_refused_text_has_no_perplexity_and_spoils_nobody_else_s(
    llama: LoadedModel, tmp_path: Path
) -> None:
    records = documents(40)
    guard = refusing(llama, [doc["question"] for doc in records[:30]], alpha=0.8)
    found = measured(llama, task_file(tmp_path, GREEDY, records), [guard])
    assert 0 < found.refused["tiny_greedy"] < 40
    prompts = [llama.tokenizer.encode(doc["question"]) for doc in records]
    answers_ = [llama.tokenizer.encode(doc["answer"], add_special_tokens=False) for doc in records]
    own = [one for one in score_continuations(llama, prompts, answers_, [guard]) if not one.abstained]
    wanted = math.exp(-sum(one.log_probability for one in own) / len(own))
    assert found.document["results"]["tiny_greedy"]["perplexity,none"] == pytest.approx(wanted, rel=1e-5)


def test_the_tokenizer_and_the_model_stay_as_they_were(llama: LoadedModel, tmp_path: Path) -> None:
    size, pad = len(llama.tokenizer), llama.tokenizer.pad_token
    before = {name: value.clone() for name, value in llama.model.state_dict().items()}
    measured(llama, task_file(tmp_path, CHOICE, documents(6)), [CHANGE])
    assert (len(llama.tokenizer), llama.tokenizer.pad_token) == (size, pad)
    assert all(torch.equal(value, llama.model.state_dict()[name]) for name, value in before.items())


def test_shots_are_the_harness_s_own(llama: LoadedModel, tmp_path: Path) -> None:
    path = task_file(tmp_path, GREEDY, documents(12))
    path.write_text(path.read_text() + "fewshot_split: test\n")
    ours = measured(llama, path, shots=2).document
    theirs = own_numbers(llama, path, num_fewshot=2)
    assert ours["n-shot"] == theirs["n-shot"] == {"tiny_greedy": 2}
    wanted = theirs["results"]["tiny_greedy"]["perplexity,none"]
    assert ours["results"]["tiny_greedy"]["perplexity,none"] == pytest.approx(wanted, rel=1e-4)
    assert wanted != measured(llama, path).document["results"]["tiny_greedy"]["perplexity,none"]


def test_an_end_token_that_the_tokenizer_appends_is_not_part_of_a_context() -> None:
    from tokenizers.processors import TemplateProcessing

    from analysis.harness.model import ChangedModel

    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    lm = ChangedModel(loaded_from(tiny_model("llama"), tokenizer), ())
    assert tokenizer.encode(" my dog") == [1, 11, 5, 2]
    assert lm.tok_encode(" my dog") == [1, 11, 5]
    assert lm.tok_encode(" my dog", add_special_tokens=False) == [11, 5]
    assert lm.tok_encode("<s> my dog") == [1, 11, 5]


def test_a_template_that_leaves_out_what_is_asked_is_refused() -> None:
    from analysis.harness.model import ChangedModel

    tokenizer = tiny_tokenizer()
    lm = ChangedModel(loaded_from(tiny_model("llama"), tokenizer), ())
    chat = [{"role": "user", "content": " my dog"}]
    tokenizer.chat_template = "<s>{{ messages[0]['content'][0]['text'] }} the"
    assert lm.apply_chat_template(chat) == "<s> my dog the"
    tokenizer.chat_template = "<s> hello"
    with pytest.raises(TextError, match="leaves out the prompt"):
        lm.apply_chat_template(chat)
