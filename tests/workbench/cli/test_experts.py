"""`experts`: the table, the rules, what pruning does, and what it says when there is nothing to say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MixtralConfig, MixtralForCausalLM

from store import list_runs, open_store
from tests.workbench.conftest import CONTEXT, ROWS, Cli, saved

PLANTED = "L1.E2"
ROW, COLUMN = 5, 3


def mixtral(**changed: Any) -> MixtralForCausalLM:
    """A random Mixtral of 3 layers with 6 experts each."""
    torch.manual_seed(4)
    sizes = {
        "vocab_size": ROWS,
        "hidden_size": 16,
        "intermediate_size": 8,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "num_local_experts": 6,
        "num_experts_per_tok": 2,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.4,
    }
    return MixtralForCausalLM(MixtralConfig(**(sizes | changed)))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mixtral with one super expert, L1.E2."""
    model = mixtral()
    with torch.no_grad():
        model.model.layers[1].mlp.experts.down_proj[2, ROW, COLUMN] = 1e5
    return saved(tmp_path_factory.mktemp("planted"), model)


@pytest.fixture(scope="module")
def plain_moe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without it."""
    return saved(tmp_path_factory.mktemp("plain-moe"), mixtral())


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven windows and a half of letters."""
    generator = torch.Generator().manual_seed(0)
    letters = [chr(97 + int(i)) for i in torch.randint(0, 26, (480,), generator=generator)]
    file = tmp_path_factory.mktemp("text") / "letters.txt"
    file.write_text("".join(letters))
    return file


def runs(kind: str) -> list[Any]:
    store = open_store()
    found = list_runs(store, kind=kind)
    store.close()
    return found


def test_the_document_has_the_promised_shape(cli: Cli, planted: Path, text: Path) -> None:
    found = cli("experts", planted, "--text", text, "--prune", "super", "--draws", 3, "--json").document
    assert set(found["threshold"]) >= {
        "rule", "percentile", "percentile_value", "ratio", "ratio_value", "layers",
    }  # fmt: skip
    assert set(found["experts"][0]) >= {
        "layer", "expert", "shared", "max_abs", "token", "position", "count", "row", "column", "forms",
        "formed_jointly", "sink_share", "super",
    }  # fmt: skip
    assert len(found["experts"]) == 18
    assert [row["layer"] for row in found["massive"]] == [0, 1, 2]
    assert set(found["massive"][0]) >= {"layer", "after", "formed_here"}
    prune = found["prune"]
    assert set(prune) >= {"base", "super", "random", "same_layer", "sink_mass", "sink_decay"}
    assert (len(prune["random"]), len(prune["same_layer"])) == (3, 3)
    assert len(prune["sink_decay"]) == 3
    assert all(len(row["base"]) == 2 for row in prune["sink_mass"])


def test_the_planted_super_expert_is_found_with_its_weight(cli: Cli, planted: Path, text: Path) -> None:
    found = cli("experts", planted, "--text", text, "--json").document
    assert found["super"] == [PLANTED]
    (row,) = [row for row in found["experts"] if row["super"]]
    assert (row["address"], row["row"], row["column"]) == (PLANTED, ROW, COLUMN)
    assert row["weight"] == pytest.approx(1e5)
    letters = text.read_text()
    windows = [letters[start : start + CONTEXT] for start in range(0, len(letters), CONTEXT)]
    read = [window for at, window in enumerate(windows) if at % 4 != 3]
    assert row["token"] == read[row["window"]][row["position"]]
    assert found["tokens"] == sum(map(len, read))
    assert sum(row["count"] for row in found["experts"] if row["layer"] == 0) == 2 * found["tokens"]
    assert [row["after"] for row in found["massive"]] == [False, True, True]
    assert [row["formed_here"] for row in found["massive"]] == [False, True, False]
    assert (row["forms"], row["formed_jointly"], row["formed_column"]) == (1.0, 0.0, COLUMN)
    assert {other["forms"] for other in found["experts"] if not other["super"]} == {0.0}
    assert sum(other["sink_share"] for other in found["experts"] if other["layer"] == 0) == 2.0
    assert found["windows"] == {"count": 6, "length": CONTEXT, "begins": None, "bos": False}
    assert found["prune"] is None


def test_thresholds_move_without_reading_the_text_again(cli: Cli, planted: Path, text: Path) -> None:
    cli("experts", planted, "--text", text, "--json")
    before = [(run.key, run.seconds) for run in runs("experts")]
    for option in (["--layers", "all"], ["--rule", "percentile", "--percentile", 90], ["--as-released"]):
        found = cli("experts", planted, "--text", text, *option, "--json").document
        assert PLANTED in found["super"]
    assert found["threshold"]["as_released"]
    assert found["threshold"]["layers"] == [0, 1]
    assert (
        cli(
            *("experts", planted, "--text", text, "--rule", "percentile", "--layers", "all", "--ratio", 1),
            "--json",
        ).document["super"]
        == []
    )
    stored = [(run.key, run.seconds) for run in runs("experts") if run.dtype == "float32"]
    assert stored == before
    assert [run.dtype for run in runs("experts")].count("bfloat16") == 1  # as released reads by itself


def test_pruning_is_measured_beside_random_experts(cli: Cli, planted: Path, text: Path) -> None:
    prune = cli("experts", planted, "--text", text, "--prune", "super", "--draws", 4, "--json").document[
        "prune"
    ]
    assert prune["pruned"] == [PLANTED]
    assert (prune["windows"], prune["base"]["delta_nll"]) == (6, 0.0)  # of 16 letters, the fewest
    assert prune["targets"] == 6 * 15
    assert any("6 windows, so the intervals are rough" in remark for remark in prune["remarks"])
    assert prune["super"]["delta_nll"] != 0
    ratio = torch.tensor(prune["super"]["perplexity"] / prune["base"]["perplexity"]).log()
    assert prune["super"]["delta_nll"] == pytest.approx(float(ratio), abs=1e-5)
    low, high = prune["super"]["delta_nll_interval"]
    assert low <= prune["super"]["delta_nll"] <= high
    for one in (*prune["random"], *prune["same_layer"]):
        assert len(one["experts"]) == 1
        assert PLANTED not in one["experts"]
    assert {one["experts"][0][:2] for one in prune["same_layer"]} == {"L1"}
    for one in (prune["base"], prune["super"], prune["random"][0], prune["same_layer"][0]):
        assert isinstance(one["text"], str)
        assert one["repeated"] is None or 0 <= one["repeated"] < 1
    assert (
        prune["random"][1]["text"] is None or prune["random"][1]["experts"] == prune["random"][0]["experts"]
    )


def test_any_experts_are_pruned_by_hand_and_written_as_a_recipe(
    cli: Cli, plain_moe: Path, text: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.json"
    chosen = ("--prune", "L0.E1, L2.E3", "--draws", 0, "--recipe-out", recipe)
    answer = cli("experts", plain_moe, "--text", text, *chosen, "--json")
    prune = answer.document["prune"]
    assert prune["pruned"] == ["L0.E1", "L2.E3"]
    assert (prune["random"], prune["same_layer"]) == ([], [])
    kinds = [(e["kind"], e["layer"], e["expert"]) for e in json.loads(recipe.read_text())["interventions"]]
    assert kinds == [("prune_expert", 0, 1), ("prune_expert", 2, 3)]
    pair = cli("generate", plain_moe, "--prompt", prune["prompt"], "--recipe", recipe, "--json").document
    assert pair["base"]["text"] == prune["base"]["text"][: len(pair["base"]["text"])]
    assert pair["changed"]["text"] == prune["super"]["text"][: len(pair["changed"]["text"])]
    assert pair["base"]["text"] != pair["changed"]["text"]


def test_nothing_planted_is_nothing_found_with_the_reason(cli: Cli, plain_moe: Path, text: Path) -> None:
    found = cli("experts", plain_moe, "--text", text, "--json").document
    assert (found["super"], found["prune"]) == ([], None)
    assert any("No layer forms massive activations" in remark for remark in found["remarks"])
    answer = cli("experts", plain_moe, "--text", text, "--prune", "super", "--json")
    assert (answer.code, answer.out) == (2, "")
    assert "Nothing is super under the rule forms, so there is nothing to prune" in answer.err
    assert "No layer forms massive activations: the largest |h|" in answer.err
    assert "Name what to prune instead" in answer.err


def test_a_dense_model_gets_the_table_of_its_blocks(cli: Cli, tiny: Path, text: Path) -> None:
    found = cli("experts", tiny, "--text", text, "--prune", "L1.N3,L0", "--draws", 2, "--json").document
    assert found["experts"] == []
    assert [(row["layer"], row["expert"], row["count"]) for row in found["blocks"]] == [
        (0, None, found["tokens"]),
        (1, None, found["tokens"]),
    ]
    assert "This model has no experts" in found["remarks"][0]
    assert found["prune"]["super"]["delta_nll"] != 0


def test_a_dense_model_with_a_super_weight(cli: Cli, tmp_path: Path, text: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=ROWS, hidden_size=16, intermediate_size=24, num_hidden_layers=6, num_attention_heads=2,
        max_position_embeddings=CONTEXT, initializer_range=0.4,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.layers[2].mlp.down_proj.weight[ROW, 17] = 1e5
    folder = saved(tmp_path / "dense", model)
    found = cli("experts", folder, "--text", text, "--prune", "super", "--draws", 2, "--json").document
    assert found["super"] == ["L2"]
    assert found["prune"]["pruned"] == ["L2.N17"]
    assert all(one["experts"][0].startswith("L2.N") for one in found["prune"]["same_layer"])


def test_a_weight_column_is_pruned_beside_columns_of_its_block(
    cli: Cli, tiny: Path, text: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.json"
    asked = ("--text", text, "--prune", "L1.N3", "--draws", 4, "--recipe-out", recipe, "--json")
    prune = cli("experts", tiny, *asked).document["prune"]
    assert prune["pruned"] == ["L1.N3"]
    assert len(prune["same_layer"]) == 4
    for one in prune["same_layer"]:
        assert [name.split(".N")[0] for name in one["experts"]] == ["L1"]
        assert one["experts"] != ["L1.N3"]
        assert len(one["delta_nll_interval"]) == 2
    entry = {"kind": "prune_column", "layer": 1, "shared": False, "expert": None, "neuron": 3}
    assert json.loads(recipe.read_text())["interventions"] == [entry]


def test_windows_are_as_long_as_asked_and_else_so_many_that_there_are_twenty(
    cli: Cli, plain_moe: Path, tmp_path: Path
) -> None:
    letters = [chr(97 + i * 7 % 26) for i in range(2600)]
    (tmp_path / "long.txt").write_text("".join(letters))
    asked = ("--text", tmp_path / "long.txt", "--evaluation", tmp_path / "long.txt", "--prune", "L0.E1")
    found = cli("experts", plain_moe, *asked, "--draws", 0, "--json").document
    assert found["windows"]["length"] == CONTEXT
    assert 20 <= found["prune"]["windows"] <= 60
    found = cli("experts", plain_moe, *asked, "--draws", 0, "--window", 32, "--json").document
    assert (found["windows"]["length"], found["windows"]["count"]) == (32, 62)
    assert found["prune"]["windows"] == 20
    assert not any("rough" in remark for remark in found["prune"]["remarks"])
    refused = cli("experts", plain_moe, *asked, "--window", 8, "--json")
    assert (refused.code, refused.out) == (2, "")


def test_as_released_reads_whole_windows_in_bfloat16(
    cli: Cli, planted: Path, text: Path, tmp_path: Path
) -> None:
    found = cli("experts", planted, "--text", text, "--as-released", "--json").document
    assert found["windows"] == {"count": 6, "length": CONTEXT, "begins": None, "bos": False}
    assert found["tokens"] == 6 * CONTEXT
    assert {run.dtype for run in runs("experts")} == {"bfloat16"}
    refused = cli("experts", planted, "--text", text, "--as-released", "--dtype", "float32")
    assert "leave --dtype out" in refused.err
    (tmp_path / "short.txt").write_text("the dog the cat " * 6)
    short = cli("experts", planted, "--text", tmp_path / "short.txt", "--as-released")
    assert "give a text of at least 64 tokens" in short.err


@pytest.mark.slow
def test_the_texts_that_ship_are_used_where_none_is_given_and_the_models_own_before_them(
    cli: Cli, plain_moe: Path, tmp_path: Path
) -> None:
    shipped = cli("experts", plain_moe, "--json").document
    assert shipped["tokens"] > 1000
    folder = saved(tmp_path / "own", mixtral())
    (folder / "calibration.txt").write_text("the dog the cat " * 20)
    (folder / "evaluation.txt").write_text("the cat the dog " * 30)
    own = cli("experts", folder, "--prune", "L0.E1", "--draws", 0, "--json").document
    assert own["tokens"] < 200
    assert own["prune"]["prompt"].startswith("the cat the dog")


@pytest.mark.slow
def test_the_table_says_it_in_words(cli: Cli, planted: Path, text: Path) -> None:
    answer = cli("experts", planted, "--text", text, "--prune", "super", "--draws", 2)
    for told in ("super: L1.E2", "rule forms: supplies half", "formed here", "100%",
                 "6 windows of at most 64", "pruned L1.E2; 6 windows",
                 "same layers, largest", "mean sink decay"):  # fmt: skip
        assert told in answer.out
    assert re.search(r"^base \(\d+% of its 4-grams repeated\): \w+\|", answer.out, re.MULTILINE)


REFUSED = {
    "an empty text": (["--text", "EMPTY"], "the text is empty"),
    "a text of one token": (["--text", "ONE"], "the text is 1 token long"),
    "one window and nothing to evaluate on": (
        ["--text", "SHORT", "--prune", "L0.E1"],
        "leaves none for evaluation; give a longer one",
    ),
    "a file that is not there": (["--text", "MISSING"], "cannot be read"),
    "all experts of a layer": (
        ["--prune", "L1.E0,L1.E1,L1.E2,L1.E3,L1.E4,L1.E5"],
        "all 6 experts of layer 1 would be pruned",
    ),
    "an expert that is not there": (
        ["--prune", "L1.E6"],
        "L1.E6: layer 1 of MixtralForCausalLM has the blocks",
    ),
    "an address that is none": (["--prune", "L1.E2,x"], "'x' is not an expert, block or neuron address"),
    "nothing named": (["--prune", " ,"], "is not an expert, block or neuron address"),
    "a percentile of 100": (["--percentile", "100"], "between 0 and 100"),
    "a rule of earlier versions": (["--rule", "small"], "choose forms"),
    "as released and another ratio": (["--as-released", "--ratio", "0.2"], "fixes rule"),
    "a recipe of nothing": (["--recipe-out", "MISSING"], "name that with --prune"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_means_nothing_is_refused_in_a_sentence(
    cli: Cli, plain_moe: Path, tmp_path: Path, case: str
) -> None:
    for name, content in (("EMPTY", "  \n"), ("ONE", "a"), ("SHORT", "the dog the cat")):
        (tmp_path / name).write_text(content)
    options, message = REFUSED[case]
    places = [str(tmp_path / o) if o.isupper() and o.isalpha() else o for o in options]
    answer = cli("experts", plain_moe, *places, "--json")
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("prune", "letters", "message"),
    [
        ("L9.E1", 480, "layer 9: MixtralForCausalLM has layers"),
        ("super", 40, "leaves none for evaluation"),
    ],
)
def test_what_cannot_be_pruned_is_refused_before_anything_is_profiled(
    cli: Cli, planted: Path, tmp_path: Path, prune: str, letters: int, message: str
) -> None:
    file = tmp_path / "short.txt"
    file.write_text("abcdefgh" * (letters // 8))
    answer = cli("experts", planted, "--text", file, "--prune", prune)
    assert answer.code == 2
    assert message in answer.err
    assert runs("experts") == []
