"""Which tasks of lm-evaluation-harness are taken, and what it says of those that are not."""

from __future__ import annotations

import json
import random
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from analysis.errors import HarnessError
from analysis.harness.measuring import check_harness, measure_tasks, open_harness_tasks
from analysis.opening.models import LoadedModel
from tests.analysis.harness.harness_files import CHOICE, GENERATE, documents, task_file
from tests.nodes import NODES

BESIDE = "def text(document):\n    raise SystemExit('code ran')\n"


def opened(path: object) -> None:
    with open_harness_tasks(str(path)):
        pass


def test_without_the_package_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.harness.measuring.find_spec", lambda name: None)
    with pytest.raises(HarnessError, match=r"pip install -r requirements-evaluate\.txt"):
        check_harness()


needed = pytest.mark.skipif(
    find_spec("lm_eval") is None,
    reason="lm_eval is not installed: pip install -r requirements-evaluate.txt",
)


@needed
@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("doc_to_text: !function beside.text", r"Python function 'beside\.text'"),
        ("process_docs: !function os.system", "Python function"),
        ("unsafe_code: true", "runs code that the model writes"),
        ("doc_to_image: picture", "images or audio"),
        ("use_prompt: promptsource:all", "promptsource"),
        ("metric_list: [{metric: evil/metric}]", "code that would come from the Hub"),
        ("metric_list: [{metric: exact_match, hf_evaluate: true}]", "code that would come from the Hub"),
        ("test_split: nowhere", "nowhere"),
        ("output_type: guess", "guess"),
        ("doc_to_texts: '{{question}}'", "doc_to_texts"),
        ("include: gone.yaml", r"gone\.yaml cannot be read"),
        ("include: tiny_choice.yaml", "includes itself"),
        ("task: [arc_easy]", "names no single task"),
        ("a: b: c", "is not YAML"),
        ("dataset_path: nobody/nothing\ndataset_kwargs: {}", "needs the network once"),
    ],
)
def test_a_task_file_of_no_use_is_told_in_one_sentence(tmp_path: Path, line: str, told: str) -> None:
    path = task_file(tmp_path, CHOICE, documents(3))
    (tmp_path / "beside.py").write_text(BESIDE)
    key = line.partition(":")[0] + ":"
    kept = [old for old in path.read_text().splitlines() if not old.startswith(key)]
    if key == "metric_list:":
        kept = [old for old in kept if not old.startswith("  -")]
    path.write_text("\n".join([*kept, line]))
    with pytest.raises(HarnessError, match=told) as error:
        opened(path)
    assert "\n" not in str(error.value)


@needed
def test_trust_in_remote_code_is_never_given(tmp_path: Path) -> None:
    path = task_file(tmp_path, CHOICE, documents(3))
    path.write_text(path.read_text().replace("{data_files", "{trust_remote_code: true, data_files"))
    with pytest.raises(HarnessError, match="trust_remote_code, which is not allowed"):
        opened(path)


@needed
def test_a_task_file_that_is_a_device_is_not_read(tmp_path: Path) -> None:
    NODES["a character device"](tmp_path / "node.yaml")
    with pytest.raises(HarnessError, match=r"node\.yaml cannot be read: it is a device"):
        opened(tmp_path / "node.yaml")


@needed
def test_a_file_that_is_not_there_and_a_name_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="cannot be read: No such file"):
        opened(tmp_path / "gone.yaml")


@needed
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("arc_esy", "knows no task 'arc_esy', but arc_easy"),
        ("humaneval", "humaneval runs code that the model writes"),
        ("arc_easy", "the data of arc_easy could not be loaded: .*; it needs the network once"),
    ],
)
def test_tasks_by_name(name: str, told: str) -> None:
    with pytest.raises(HarnessError, match=told):
        opened(name)


@needed
def test_a_template_sees_nothing_of_python(llama: LoadedModel, tmp_path: Path) -> None:
    """Rendered unsandboxed, this template would print the classes of this process."""
    path = task_file(tmp_path, GENERATE, documents(3))
    path.write_text(path.read_text().replace("{{question}}", "{{ ''.__class__.__mro__ }}"))
    with pytest.raises(HarnessError, match="__class__"), open_harness_tasks(str(path)) as tasks:
        measure_tasks(llama, tasks)


@needed
def test_nothing_is_connected_to_and_nothing_is_left_behind(
    llama: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    cache = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    called: list[Any] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: called.append(a))
    monkeypatch.setattr(datasets.load, "increase_load_count", _counted(datasets, called))
    path = task_file(tmp_path, CHOICE, documents(3))
    before = sorted(tmp_path.rglob("*"))
    drawn = random.getstate()
    with open_harness_tasks(str(path)) as tasks:
        document = measure_tasks(llama, tasks).document
    assert called == []
    assert sorted(tmp_path.rglob("*")) == before
    assert random.getstate() == drawn
    assert "cache_dir" not in json.dumps(document)


def _counted(datasets: Any, called: list[Any]) -> Any:
    """The library's own count, seen where it would be sent."""

    def count(name: str) -> None:
        if datasets.config.HF_UPDATE_DOWNLOAD_COUNTS:
            called.append(name)

    return count


@needed
def test_the_digest_is_of_what_is_asked_and_not_of_where_it_lies(tmp_path: Path) -> None:
    def digest(folder: str, records: Any, limit: int = 0) -> str:
        (tmp_path / folder).mkdir()
        with open_harness_tasks(str(task_file(tmp_path / folder, CHOICE, records)), limit=limit) as tasks:
            return str(tasks.digest)

    first = digest("one", documents(4))
    assert digest("two", documents(4)) == first
    changed = documents(4)
    changed[3]["gold"] = 1 - changed[3]["gold"]
    assert digest("three", changed) != first
    assert digest("four", changed, limit=3) == digest("five", documents(4), limit=3)
