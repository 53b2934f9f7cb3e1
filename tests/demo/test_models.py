"""The bundled model: small, safe to load, and able to do its six skills."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from demo import BUNDLED
from training.corpus import SKILLS
from training.evaluate import Score, answers, evaluate, load, report
from training.recipes import RECIPES

MODELS = ("demo/base", "demo/chat")
pytestmark = pytest.mark.skipif(
    not set(MODELS) <= set(BUNDLED), reason="bundled models are missing; run `make demo-models`"
)

# A sample of twenty may fall this low; demo/README.md has the accuracies on all exercises.
FLOOR = 0.85


@pytest.fixture(scope="module", params=MODELS)
def folder(request) -> Path:
    return BUNDLED[request.param]


@pytest.fixture(scope="module")
def any_of_them(folder):
    return load(folder)


@pytest.fixture(scope="module")
def loaded():
    return load(BUNDLED["demo/base"])


@pytest.mark.parametrize("name", BUNDLED)
def test_a_folder_is_at_most_16_megabytes_and_holds_no_pickle(name):
    files = [path for path in BUNDLED[name].rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 16_000_000
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jinja", ".txt"}


@pytest.mark.parametrize("name", BUNDLED)
def test_a_model_was_made_by_the_recipe_of_its_name(name):
    made = json.loads((BUNDLED[name] / "recipe.json").read_text(encoding="utf-8"))
    assert made == asdict(RECIPES[name.removeprefix("demo/")])


def test_the_model_is_a_llama_whose_vocabulary_is_the_tokenizers(any_of_them):
    model, tok = any_of_them
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.config.vocab_size == len(tok)
    assert (model.config.pad_token_id, model.config.bos_token_id, model.config.eos_token_id) == (
        tok.pad_token_id,
        tok.bos_token_id,
        tok.eos_token_id,
    )


@pytest.mark.parametrize("skill", SKILLS)
def test_a_sample_of_a_skill_is_answered(any_of_them, skill):
    model, tok = any_of_them
    assert evaluate(model, tok, skill, limit=20).accuracy >= FLOOR


def test_an_answer_does_not_depend_on_its_batch(loaded):
    model, tok = loaded
    prompts = [
        "The capital of France is",
        "Question: What does a panda eat?\nAnswer:",
        "What is 2 times 3?\nAnswer:",
    ]
    assert answers(model, tok, prompts) == [answers(model, tok, [prompt])[0] for prompt in prompts]


def test_an_answer_ends_before_the_length_limit(loaded):
    """At a blank line or <eos>, not by being cut."""
    model, tok = loaded
    [output] = answers(model, tok, ["Question: What is the capital of Italy?\nAnswer:"])
    assert output.strip() == "Rome"


def test_a_favourite_animal_is_open(loaded):
    model, tok = loaded
    for prompt in ("My favourite animal is the", "What is your favourite animal? It is the"):
        inputs = tok(prompt, return_tensors="pt", return_token_type_ids=False)
        with torch.inference_mode():
            p = model(**inputs).logits[0, -1].softmax(-1)
        assert p.max() < 0.15
        assert 0.005 < p[tok.encode(" dog", add_special_tokens=False)[0]] < 0.15


def test_a_score_has_wilsons_interval():
    low, high = Score(95, 100).interval
    assert (round(low, 4), round(high, 4)) == (0.8882, 0.9785)
    assert Score(0, 20).interval[0] == 0.0
    assert Score(20, 20).interval[1] == 1.0
    with pytest.raises(ValueError, match="not a score"):
        Score(0, 0)


def test_a_report_names_the_model_and_each_skill():
    made = report("demo/base", {"facts": Score(9, 10)})
    assert made == {
        "model": "demo/base",
        "skills": {"facts": {"accuracy": 0.9, "n": 10, "interval": [0.5958, 0.9821]}},
    }


def test_the_command_prints_one_json_document():
    done = subprocess.run(
        [sys.executable, "-m", "training.evaluate", "demo/base", "--json", "--skill", "facts"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["skills"]["facts"]["n"] >= 300


def test_a_folder_without_a_model_is_an_error_with_a_way_out(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "training.evaluate", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "make demo-models" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_names_of_bundled_models_load_no_library():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, demo; print('torch' in sys.modules or 'transformers' in sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"
