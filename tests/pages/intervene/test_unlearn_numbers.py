"""The Unlearn page shows the numbers of the document, and those are right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load
from streamlit.testing.v1 import AppTest
from transformers import AutoModelForCausalLM, AutoTokenizer

from store import Store
from tests.pages.explore.experts_made import moe_folder  # noqa: F401 - a fixture
from tests.pages.reading import press, shown
from tests.pages.unlearning_made import GO, QUICK, RunApp, Skills, page, question_of, told
from workbench.unlearning.answers import UnlearningAnswer
from workbench.unlearning.unlearning import read_method_recipe


def test_the_numbers_are_those_of_the_document(
    run_app: RunApp, answer: tuple[Store, UnlearningAnswer]
) -> None:
    document = answer[1].to_document()
    app = page(run_app)
    text = shown(app)
    for method, name, table in zip(
        document["methods"], ("KSD", "Neuron Adjust", "Selective pruning"), app.dataframe[3:], strict=False
    ):
        forget, kept = method["skills"]
        assert method["verdict"]["sentence"].startswith(name)
        assert method["verdict"]["sentence"] in text
        rows = table.value.set_index("skill")
        assert list(rows["role"]) == ["forget", "retain"]
        for skill in (forget, kept):
            row = rows.loc[skill["skill"]]
            assert row["n"] == skill["n"]
            assert row["before"].startswith(f"{skill['before']:.3f} [{skill['before_interval'][0]:.2f}")
            assert row["refused"] == f"{skill['abstained']:.1%}"
            assert row["JS"] == f"{skill['js']:.3f}"
            control = method["control"]["drop"][skill["skill"]]
            assert row.iloc[-1] == f"{control:.3f}".replace("-", "−")
    assert "was used for **1** question on this model" in text
    opened = app.dataframe[7].value.set_index("skill")
    split = document["split"]["skills"][0]
    assert list(opened.loc["one"])[:4] == [split[key] for key in _PARTS]


_PARTS = ("probe", "validation", "test", "unseen_wordings")


def test_every_way_of_asking_that_the_document_has_is_a_row(
    run_app: RunApp, answer: tuple[Store, UnlearningAnswer]
) -> None:
    table = page(run_app).dataframe[6].value
    for name, method in zip(table["method"].unique(), answer[1].to_document()["methods"], strict=True):
        rows = table[table["method"] == name].set_index("asked")
        assert list(rows.index)[:3] == ["the test, whole", "in unseen wordings", "in seen wordings"]
        named = {"few_shot": "after answered examples", "harmless_prefix": "after a greeting"}
        forget = method["skills"][0]
        told = {"in unseen wordings": forget["unseen"], "in seen wordings": forget["seen"]}
        told |= {named[form["form"]]: form for form in method["robustness"] if form["form"] in named}
        assert len(told) == 4
        for asked, change in told.items():
            assert rows.loc[asked, "n"] == change["n"]
            assert rows.loc[asked, "after"].startswith(f"{change['after']:.3f} [")
            assert rows.loc[asked, "refused"] == f"{change['abstained']:.1%}"


def test_the_numbers_are_what_transformers_alone_finds(
    answer: tuple[Store, UnlearningAnswer], skills: Skills, tiny_model_folder: Path
) -> None:
    """Accuracy before and after the guard from the recipe's tensors, with no code of ours but the split."""
    store, found = answer
    files = read_method_recipe(store, found.run, 0)
    [guard] = json.loads(files["recipe.json"])["interventions"]
    tensors = load(files["recipe.safetensors"])
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    keys: dict[int, torch.Tensor] = {}
    for layer, block in enumerate(model.model.layers):
        block.mlp.down_proj.register_forward_pre_hook(
            lambda m, args, layer=layer: keys.__setitem__(layer, args[0][0])
        )
    asked = question_of(skills)
    limit = found.methods[0].parameters["max_new_tokens"]
    for split, skill in zip(asked.scene().splits, found.methods[0].skills, strict=True):
        before = after = 0
        for item in split.test:
            ids = torch.tensor([tokenizer.encode(item.prompt)])
            with torch.no_grad():
                logits = model(ids).logits
                refused = _refused(keys, tensors, guard)
                said: list[int] = []
                while len(said) < limit and not (said and said[-1] == 1):
                    said.append(int(logits[0, -1].argmax()))
                    ids = torch.cat([ids, torch.tensor([said[-1:]])], 1)
                    logits = model(ids).logits
            text = tokenizer.decode(said, skip_special_tokens=True).split("\n\n")[0]
            right = text.strip().split("\n")[0].strip() == item.answer
            before, after = before + right, after + (right and not refused)
        assert skill.change.n == len(split.test)
        assert skill.change.before == pytest.approx(before / len(split.test))
        assert skill.change.after == pytest.approx(after / len(split.test))
        assert skill.change.relative_drop == pytest.approx(1 - after / before)


def _refused(keys: dict[int, torch.Tensor], tensors: dict[str, torch.Tensor], guard: Any) -> bool:
    """Whether the score of the last key and of the mean over what was typed reaches the threshold."""
    assert (guard["kind"], guard["key"]) == ("linear_guard", "both")
    weights = tensors[guard["tensors"]["weights"]].double()
    score = float(guard["bias"])
    for number, layer in enumerate(guard["layers"]):
        states = keys[layer].double()
        score += float(states[-1] @ weights[0, number]) + float(states.mean(0) @ weights[1, number])
    return score >= float(guard["threshold"])


def test_an_accuracy_that_is_not_above_chance_has_no_drop_but_a_warning(
    run_app: RunApp, skills: Skills, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = [json.loads(line) | {"answer": "never"} for line in skills["two"].read_text().splitlines()]
    (tmp_path / "two.jsonl").write_text("\n".join(map(json.dumps, wrong)))
    given = {"one": skills["one"], "two": tmp_path / "two.jsonl"}
    monkeypatch.setattr("workbench.skills.library.BUNDLED_SKILLS", given)
    app = press(page(run_app, methods="KSD", **QUICK), GO)
    assert "KSD, two: accuracy 0.000 before is not above chance (0.000)" in told(app)
    assert "cost to a retain skill" in list(app.dataframe[0].value["measured"])
    assert app.dataframe[1].value["relative drop"][1] == "–"


def test_parts_that_nearly_share_prompts_are_told(answer: tuple[Store, UnlearningAnswer]) -> None:
    def show(document: dict[str, object]) -> None:
        from pages.intervene.unlearn.results import show_split
        from workbench.unlearning.documents import read_unlearning

        show_split(read_unlearning(document))

    document = answer[1].to_document()
    for skill in document["split"]["skills"]:
        skill |= {"near_duplicates": 0, "nearest": []}
    clean = AppTest.from_function(show, kwargs={"document": document}).run()
    assert not clean.warning
    document["split"]["skills"][1] |= {
        "near_duplicates": 4,
        "nearest": [{"one": "<b>a</b>", "other": "a", "similarity": 0.9}],
    }
    near = AppTest.from_function(show, kwargs={"document": document}).run()
    assert not near.exception
    assert "share near-duplicate prompts" in near.warning[0].value
    assert list(near.dataframe[0].value["near-duplicates"]) == [0, 4]
    assert list(near.dataframe[1].value.iloc[0]) == ["two", "<b>a</b>", "a", 0.9]
