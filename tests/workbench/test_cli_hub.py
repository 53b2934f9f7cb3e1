"""`decode --from-disk` of a model at the Hub: what it says, refuses, and goes on from."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.standin_hub import StandinHub
from tests.workbench.conftest import Cli
from tests.workbench.hub_models import NAME, THIRD, in_cache
from tests.workbench.hub_models import in_four as in_four
from tests.workbench.test_cli_bad_input import refused

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
    refused(cli, "decode", NAME, *FROM_DISK, says=f"Error: {THIRD} of some/model did not come from the Hub")
    hub.cut.clear()
    hub.log.clear()
    assert cli("decode", NAME, *FROM_DISK).code == 0
    assert "model-00001-of-00004.safetensors" not in hub.fetched()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--delete-shards",), "--delete-shards goes with --from-disk"),
        ((*FROM_DISK, "--engine", "processes"), "--delete-shards goes with --engine local"),
    ],
)
def test_options_that_contradict_each_other(
    hub: StandinHub, in_four: Path, cli: Cli, options: tuple[str, ...], says: str
) -> None:
    refused(cli, "decode", NAME, *options, says=says)
    assert hub.log == []


def test_a_folder_s_own_files_are_never_deleted(in_four: Path, cli: Cli) -> None:
    before = sorted(path.name for path in in_four.iterdir())
    assert cli("decode", in_four, *FROM_DISK).code == 0
    assert sorted(path.name for path in in_four.iterdir()) == before


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
