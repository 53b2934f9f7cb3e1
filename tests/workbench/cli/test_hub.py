"""`decode --from-disk` of a model at the Hub: what it says, refuses, and goes on from."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.checkpoints.headers import read_stored_tensors
from analysis.checkpoints.hub import hub_model
from analysis.checkpoints.weight_files import INDEX
from tests.standin_hub import StandinHub
from tests.workbench.conftest import Cli
from tests.workbench.neurons.hub_models import CONFIGS, NAME, THIRD, at_hub, in_cache
from tests.workbench.neurons.hub_models import in_four as in_four
from tests.workbench.refusals import refused

FROM_DISK = ("--from-disk", "--delete-shards")


def test_the_command_line_decodes_a_hub_model_and_says_what_it_fetches(
    hub: StandinHub, in_four: Path, cli: Cli
) -> None:
    answer = cli("decode", NAME, *FROM_DISK, "--json")
    assert answer.document["neurons"] == 5 * 48
    assert answer.document["cached"] is False
    assert f"Fetching {THIRD} of some/model, 0.00 GB" in answer.err
    assert in_cache(hub) == set()
    local = cli("decode", in_four, "--json").document
    assert (local["run"], local["cached"]) == (answer.document["run"], True)


def test_the_command_line_tells_what_did_not_come(hub: StandinHub, in_four: Path, cli: Cli) -> None:
    hub.cut.add(THIRD)
    refused(
        cli,
        "decode",
        NAME,
        *FROM_DISK,
        says=f"Error: {THIRD} of some/model could not be fetched from the Hub",
    )
    hub.cut.clear()
    hub.log.clear()
    assert cli("decode", NAME, *FROM_DISK).code == 0
    assert "model-00001-of-00004.safetensors" not in hub.fetched()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--delete-shards",), "--delete-shards needs --from-disk"),
        ((*FROM_DISK, "--engine", "processes"), "--delete-shards needs --engine local"),
    ],
)
def test_options_that_contradict_each_other(
    hub: StandinHub, in_four: Path, cli: Cli, options: tuple[str, ...], says: str
) -> None:
    refused(cli, "decode", NAME, *options, says=says)
    assert hub.log == []


def test_inspect_says_of_a_hub_model_what_it_says_of_its_folder_and_fetches_no_weight(
    hub: StandinHub, in_four: Path, cli: Cli
) -> None:
    local = cli("inspect", in_four, "--json").document
    found = cli("inspect", NAME, "--json").document
    assert hub.fetched() == []
    assert sorted(what for _, what in hub.log if what.endswith("(part)")) == [
        f"model-0000{number}-of-00004.safetensors (part)" for number in (1, 2, 3, 4)
    ]
    assert {**found, "model": None, "fit": None} == {**local, "model": None, "fit": None}
    assert found["model"]["fingerprint"] == local["model"]["fingerprint"]
    unlike = ("reason", "free")  # what is free changes
    assert {k: v for k, v in found["fit"].items() if k not in unlike} == {
        k: v for k, v in local["fit"].items() if k not in unlike
    }
    hub.log.clear()
    assert "proven on placeholder weights" in cli("inspect", NAME).out
    assert not any("(part)" in what for _, what in hub.log)
    assert "reproduce the model's own numbers" in cli("inspect", in_four).out


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("shard", ["25KB", "5GB"])
def test_headers_at_the_hub_are_those_of_the_files(
    hub: StandinHub, tmp_path: Path, kind: str, shard: str
) -> None:
    folder = at_hub(hub, tmp_path / "files", kind, shard)
    here, there = read_stored_tensors(folder), hub_model(NAME).tensors()
    assert {key: (t.shape, t.dtype, t.path.name) for key, t in there.items()} == {
        key: (t.shape, t.dtype, t.path.name) for key, t in here.items()
    }
    assert hub.fetched() == []


def cut_off(folder: Path) -> None:
    (folder / THIRD).write_bytes((folder / THIRD).read_bytes()[:2000])


def misplaced(folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["lm_head.weight"] = "model-00001-of-00004.safetensors"
    (folder / INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (cut_off, f"{THIRD} of some/model is truncated at the Hub: its header lists"),
        (
            misplaced,
            "its index assigns lm_head.weight to model-00001-of-00004.safetensors, which does not",
        ),
    ],
)
def test_headers_at_the_hub_that_cannot_be_true_are_told(
    hub: StandinHub, in_four: Path, cli: Cli, spoil: Callable[[Path], None], says: str
) -> None:
    spoil(in_four)
    refused(cli, "inspect", NAME, says=says)
    assert hub.fetched() == []


def test_headers_that_do_not_come_are_told(hub: StandinHub, in_four: Path, cli: Cli) -> None:
    hub.refuse[THIRD] = 500
    refused(cli, "inspect", NAME, says="a header of some/model could not be fetched from the Hub: ")
    hub.refuse.clear()
    assert cli("inspect", NAME).code == 0


def test_a_folder_s_own_files_are_never_deleted(in_four: Path, cli: Cli) -> None:
    before = sorted(path.name for path in in_four.iterdir())
    assert cli("decode", in_four, *FROM_DISK).code == 0
    assert sorted(path.name for path in in_four.iterdir()) == before


@pytest.mark.slow
def test_a_process_that_was_killed_is_gone_on_from(hub: StandinHub, in_four: Path, tmp_path: Path) -> None:
    hub.stops_at = THIRD
    command = [sys.executable, "-m", "workbench", "decode", NAME, *FROM_DISK, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert hub.stopped.wait(120)
    process.kill()
    process.wait()
    assert set(hub.fetched()) >= {"model-00001-of-00004.safetensors", "model-00004-of-00004.safetensors"}
    hub.stops_at = ""
    hub.log.clear()
    ended = subprocess.run(command, check=True, capture_output=True, text=True, timeout=240)
    assert json.loads(ended.stdout)["neurons"] == 5 * 48
    assert "model-00001-of-00004.safetensors" not in hub.fetched()
    assert in_cache(hub) == set()
