"""The bundled model: small, safe to load, and able to do its six skills."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from demo import BUNDLED
from demo.corpus import SKILLS
from demo.evaluate import Score, answers, evaluate, load, report

FOLDER = BUNDLED.get("demo/base", Path("demo/base"))
pytestmark = pytest.mark.skipif("demo/base" not in BUNDLED, reason="no demo/base; run `make demo-models`")

# A sample of twenty may fall this low; demo/README.md has the accuracies on all exercises.
FLOORS = {"arithmetic": 0.9, "facts": 0.85} | dict.fromkeys(("stories", "python", "french", "spanish"), 0.7)


@pytest.fixture(scope="module")
def loaded():
    return load(FOLDER)


def test_the_folder_is_at_most_16_megabytes_and_holds_no_pickle():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 16_000_000
    assert {path.suffix for path in files} <= {".safetensors", ".json"}


def test_the_model_is_a_llama_whose_vocabulary_is_the_tokenizers(loaded):
    model, tok = loaded
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.config.vocab_size == len(tok)
    assert (model.config.pad_token_id, model.config.bos_token_id, model.config.eos_token_id) == (
        tok.pad_token_id,
        tok.bos_token_id,
        tok.eos_token_id,
    )


@pytest.mark.parametrize("skill", SKILLS)
def test_a_sample_of_a_skill_is_answered(loaded, skill):
    model, tok = loaded
    assert evaluate(model, tok, skill, limit=20).accuracy >= FLOORS[skill]


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
        [sys.executable, "-m", "demo.evaluate", "demo/base", "--json", "--skill", "facts"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["skills"]["facts"]["n"] >= 300


def test_a_folder_without_a_model_is_an_error_with_a_way_out(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "demo.evaluate", str(tmp_path)], capture_output=True, text=True
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
