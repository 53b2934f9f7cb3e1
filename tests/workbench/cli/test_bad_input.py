"""Bad input ends with exit code 2 and a sentence that says the way out; never with a traceback."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from torch import zeros
from transformers import BertConfig

from tests.workbench.conftest import CONTEXT, Cli
from tests.workbench.refusals import refused

PROMPT = ("--prompt", "the dog")


def test_a_folder_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    refused(cli, "inspect", tmp_path / "none", says="there is no folder")


def test_a_model_that_is_neither_bundled_nor_a_folder_nor_on_the_hub(cli: Cli) -> None:
    refused(cli, "inspect", "nobody/nothing", says="neither a bundled model")


def test_no_model_named(cli: Cli) -> None:
    refused(cli, "inspect", "", says="no model named")


def test_the_home_of_somebody_unknown(cli: Cli) -> None:
    refused(cli, "inspect", "~nobody-at-all/model", says="no such home folder")
    refused(cli, "models", "--db", "~nobody-at-all/h.db", says="no such home folder")


def test_a_name_longer_than_any_file_s(cli: Cli) -> None:
    refused(cli, "inspect", "x" * 5000, says="x")


def test_a_folder_without_a_config(cli: Cli, tmp_path: Path) -> None:
    refused(cli, "inspect", tmp_path, says="has no config.json")


def test_a_config_that_is_not_json(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"\x80\x81 nonsense")
    refused(cli, "inspect", tmp_path, says="config.json is not JSON")


def test_a_config_that_is_a_list(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[]")
    refused(cli, "inspect", tmp_path, says="config.json")


def test_pickled_weights_only(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    shutil.copy(tiny / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    refused(cli, "inspect", tmp_path, says="pickled weights only")


def test_an_encoder(cli: Cli, tmp_path: Path) -> None:
    BertConfig(architectures=["BertForMaskedLM"]).save_pretrained(tmp_path)
    save_file({"dummy": zeros(1)}, tmp_path / "model.safetensors")
    refused(cli, "inspect", tmp_path, says="predicts no next token")


def test_a_model_without_a_tokenizer(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tiny / name, tmp_path)
    refused(cli, "inspect", tmp_path, says="has no tokenizer that can be loaded")


def test_weights_that_were_cut_short(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(tiny, tmp_path / "broken"))
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    refused(cli, "inspect", broken, says="is truncated: its header lists")


@pytest.mark.parametrize("device", ["abacus", "cuda:99", "meta", ""])
def test_a_device_that_is_not_there(cli: Cli, tiny: Path, device: str) -> None:
    refused(cli, "inspect", tiny, "--device", device, says="Error: ")


def test_a_dtype_that_is_unknown(cli: Cli, tiny: Path) -> None:
    refused(cli, "inspect", tiny, "--dtype", "int4", says="dtype 'int4' is unknown")


def test_a_word_of_several_tokens_shows_its_pieces(cli: Cli, tiny: Path) -> None:
    refused(cli, "find", tiny, "dogs", says="' dog' + 's'")


def test_an_empty_word(cli: Cli, tiny: Path) -> None:
    refused(cli, "find", tiny, " ", says="no word given")


def test_a_negative_probability(cli: Cli, tiny: Path) -> None:
    asked = ("--by", "probability", "--sign", "negative")
    refused(cli, "find", tiny, "dog", *asked, says="rank by z or cosine")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("decode", "M", "--site", "key"), "'key' is not one of 'up', 'gate', 'down'"),
        (("decode", "M", "--norm", "l2"), "'l2' is not one of 'none', 'unit', 'final', 'through'"),
        (("decode", "M", "--top-k", "0"), "Input should be greater than or equal to 1"),
        (("decode", "M", "--engine", "ray"), "'ray' is not one of 'local', 'processes'"),
        (("decode", "M", "--engine", "abacus"), "'abacus' is not one of"),
        (("decode", "M", "--out", "x.xlsx"), "unknown file format; end its name in .jsonl, .csv, .parquet"),
        (("find", "M", "dog", "--limit", "0"), "Input should be greater than or equal to 1"),
        (("find", "M", "dog", "--by", "love"), "'love' is not one of"),
        (("find", "M", "dog", "--sign", "+"), "'+' is not one of"),
        (("find", "M"), "Missing argument 'WORD'"),
        (("decode", "M", "--seed", "1"), "No such option"),
        (("generate", "M", *PROMPT, "--seed", "-1"), "Input should be greater than or equal to 0"),
        (("decode", "M", "--nonsense"), "No such option"),
        (("frobnicate",), "No such command"),
        (("generate", "M"), "either --prompt TEXT or --prompts"),
        (("generate", "M", *PROMPT, "--temperature", "-1"), "choose 0 (greedy) to 10"),
        (("generate", "M", *PROMPT, "--temperature", "nan"), "choose 0 (greedy) to 10"),
        (("generate", "M", *PROMPT, "--max-new-tokens", "0"), "choose 1 to 4096"),
        (("generate", "M", *PROMPT, "--seed", str(2**63)), "choose a whole number from 0"),
        (("generate", "M", *PROMPT, "--keep", " "), "--keep needs a title"),
        (("generate", "M", "--prompt", "the \udcff"), "this is not UTF-8 text"),
        (("findings", "export", "--format", "docx", "--out", "x"), "'docx' is not one of"),
        (("findings", "show", "xyz"), "is not the id of a finding"),
        (("findings", "show", "0123456789"), "no finding 0123456789"),
        (("findings", "rerun", "0123456789"), "no finding 0123456789"),
        (("runs", "delete", "0123"), "run 0123 is not in"),
        (("runs", "list", "--limit", "0"), "Input should be greater than or equal to 1"),
    ],
)
def test_an_option_that_cannot_be(cli: Cli, tiny: Path, arguments: tuple[str, ...], says: str) -> None:
    refused(cli, *(str(tiny) if a == "M" else a for a in arguments), says=says)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("seven", "is not a neuron address; write L12.N3405"),
        ("L-1.N0", "is not a neuron address"),
        ("L2.N0", "layer 2: LlamaForCausalLM has layers L0–L1"),
        ("L0.N24", "block L0 has neurons N0–N23"),
        ("L0.E3.N0", "layer 0 of LlamaForCausalLM is dense; leave the expert out"),
    ],
)
def test_an_address_that_leads_nowhere(cli: Cli, tiny: Path, address: str, says: str) -> None:
    refused(cli, "neuron", tiny, address, says=says)
    refused(cli, "generate", tiny, *PROMPT, "--clamp", f"{address}:ablate", says=says)


def test_an_expert_that_is_not_there(cli: Cli, experts: Path) -> None:
    refused(cli, "neuron", experts, "L0.E4.N0", says="has the blocks L0.E0 … L0.E3")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e30", "many", ""])
def test_a_value_that_is_no_useful_number(cli: Cli, tiny: Path, value: str) -> None:
    refused(
        cli,
        "generate",
        tiny,
        *PROMPT,
        "--clamp",
        f"L0.N0:set:{value}",
        says="useful values" if value not in ("many", "") else "is not a number",
    )


@pytest.mark.parametrize(
    "clamp", ["L0.N0", "L0.N0:set", "L0.N0:down:set:1", "L0.N0:set:1@never", "L0.N0:ablate:1"]
)
def test_a_clamp_that_cannot_be_read(cli: Cli, tiny: Path, clamp: str) -> None:
    refused(cli, "generate", tiny, *PROMPT, "--clamp", clamp, says="Error: ")


def test_a_plain_block_has_no_gate_to_decode(cli: Cli, plain: Path) -> None:
    refused(cli, "decode", plain, "--site", "gate", says="has up, down")


def test_a_plain_block_has_no_gate_to_clamp(cli: Cli, plain: Path) -> None:
    refused(cli, "generate", plain, *PROMPT, "--clamp", "L0.N0:gate:set:1", says="gate")


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_an_empty_prompt(cli: Cli, tiny: Path, prompt: str) -> None:
    refused(cli, "generate", tiny, "--prompt", prompt, says="the prompt is empty")


def test_a_prompt_longer_than_the_context(cli: Cli, tiny: Path) -> None:
    refused(cli, "generate", tiny, "--prompt", " dog" * CONTEXT, says=f"the model's context is {CONTEXT}")


@pytest.mark.parametrize(("text", "says"), [("", "the text is empty"), (" dog" * (CONTEXT + 1), "context")])
def test_a_text_the_model_cannot_read(cli: Cli, tiny: Path, text: str, says: str) -> None:
    refused(cli, "neuron", tiny, "L0.N0", "--text", text, says=says)


def entry(**changes: Any) -> dict[str, Any]:
    """A recipe's clamp with something changed."""
    sound = {"kind": "clamp", "layer": 0, "expert": None, "shared": False, "neuron": 0, "site": "key"}
    return sound | {"mode": "set", "value": 1.0, "unit": "raw", "raw": 1.0, "scope": "all"} | changes


@pytest.mark.parametrize(
    ("interventions", "says"),
    [
        ("none", 'a recipe needs a list of "interventions"'),
        ([7], "has the kind 7"),
        ([entry(kind="melt")], "this version supports: clamp"),
        ([entry(neuron=-1)], "is not a neuron address"),
        ([entry(neuron="x")], "cannot be read"),
        ([entry(layer=9)], "layer 9"),
        ([entry(site="down")], "site 'down' is unknown"),
        ([entry(mode="freeze", value=None)], "mode 'freeze' is unknown"),
        ([entry(unit="metre")], "unit 'metre' is unknown"),
        ([entry(raw="much")], "raw 'much' is not a finite number"),
        ([entry(raw=float("nan"))], "is not a finite number"),
        ([entry(value=float("inf"))], "is not a number of at most"),
        ([entry(value=10**400)], "too large"),
        ([entry(layer=float("inf"))], "not a whole number"),
        ([entry(raw=10**400)], "too large"),
        ([entry(scope="sometimes")], "SCOPE 'sometimes' is unknown"),
    ],
)
def test_a_recipe_that_nobody_should_run(
    cli: Cli, tiny: Path, tmp_path: Path, interventions: Any, says: str
) -> None:
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps({"headlamp_recipe": 1, "interventions": interventions}))
    refused(cli, "generate", tiny, *PROMPT, "--recipe", recipe, says=says)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (bytes(range(256)), "is not UTF-8 text"),
        (b"", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "not a Headlamp recipe"),
        (b'{"headlamp_recipe": 99}', "not a Headlamp recipe of format 1"),
    ],
)
def test_a_recipe_file_that_is_none(cli: Cli, tiny: Path, tmp_path: Path, content: bytes, says: str) -> None:
    recipe = tmp_path / "recipe.json"
    recipe.write_bytes(content)
    refused(cli, "generate", tiny, *PROMPT, "--recipe", recipe, says=says)
    refused(cli, "generate", tiny, *PROMPT, "--recipe", tmp_path, says="cannot be read")
    refused(cli, "generate", tiny, *PROMPT, "--recipe", tmp_path / "none", says="cannot be read")


def test_a_recipe_of_another_model(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.json"
    model = {"name": "demo/other", "revision": None, "fingerprint": "f" * 64}
    recipe.write_text(json.dumps({"headlamp_recipe": 1, "model": model, "interventions": [entry()]}))
    refused(cli, "generate", tiny, *PROMPT, "--recipe", recipe, says="made for 'demo/other'")


@pytest.mark.parametrize("name", ["none/d.csv", "file/d.csv", "folder.csv"])
def test_a_target_that_cannot_be_written(cli: Cli, tiny: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.csv").mkdir()
    before = sorted(tmp_path.iterdir())
    refused(cli, "decode", tiny, "--out", tmp_path / name, says=str(tmp_path / name))
    refused(cli, "generate", tiny, *PROMPT, "--recipe-out", tmp_path / name, says=str(tmp_path / name))
    refused(cli, "findings", "export", "--format", "csv", "--out", tmp_path / name, says=str(tmp_path / name))
    assert sorted(tmp_path.iterdir()) == before


def test_a_database_of_a_newer_version_stays_as_it_is(cli: Cli, tmp_path: Path) -> None:
    db = tmp_path / "newer.db"
    cli("models", "--db", db)
    with sqlite3.connect(db) as connection:
        later = "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES (?, ?, ?)"
        connection.execute(later, ("headlamp", "9999_later", ""))
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    before = db.read_bytes()
    refused(cli, "models", "--db", db, says="Update Headlamp, or set HEADLAMP_DB to another file")
    assert db.read_bytes() == before


@pytest.mark.parametrize("command", [("models",), ("findings", "list"), ("runs", "list"), ("inspect", "M")])
def test_a_damaged_database_stays_as_it_is(
    cli: Cli, tiny: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    db = tmp_path / "damaged.db"
    db.write_bytes(b"this is no database " * 100)
    before = db.read_bytes()
    arguments = [str(tiny) if a == "M" else a for a in command]
    refused(cli, *arguments, "--db", db, says="The file was not changed")
    assert db.read_bytes() == before


def test_a_database_in_a_place_that_is_none(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(cli, "models", "--db", tmp_path / "file" / "h.db", says="cannot be written")
    refused(cli, "models", "--db", tmp_path, says="cannot be written")


@pytest.mark.parametrize(
    ("content", "says"), [(b"\xff\xfe", "is not UTF-8 text"), (b"{}", "no `headlamp_findings`")]
)
def test_an_import_that_is_none(cli: Cli, tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "findings.json"
    file.write_bytes(content)
    refused(cli, "findings", "import", file, says=says)
    refused(cli, "findings", "import", tmp_path / "none.json", says="cannot be read")
