"""Tasks of lm-evaluation-harness: by name, or in a YAML file.

A task file is treated as data: its templates are rendered in a sandbox, and one that names Python code
is refused. Needs the package lm_eval.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import lm_eval.api.metrics  # fills the registry
import yaml
from lm_eval.api.registry import metric_registry
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml
from lm_eval.utils import handle_non_serializable

from analysis.errors import HarnessError, first_line
from analysis.harness.contained import FEWSHOT_SEED, contain_harness, forbid_metric_code
from analysis.inputs import check_input

_OFFLINE = {"ConnectionError", "ConnectError", "OfflineModeIsEnabled", "LocalEntryNotFoundError"} | {
    "DatasetNotFoundError",
    "HfHubHTTPError",
    "ConnectTimeout",
}
_OWN = str(Path(lm_eval.tasks.__file__).parent)
"""Path prefix of functions that come with the harness."""

Config = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Tasks:
    """The tasks of one name or file. found: as the harness's manager returns them.

    digest: SHA-256 of their settings and of the documents that are asked, which determine every number;
    their location does not count.
    """

    found: Any
    digest: str


@contextmanager
def open_tasks(name: str, *, limit: int, shots: int | None, seed: int) -> Iterator[Tasks]:
    """The tasks of a name or a YAML file, contained while the body runs.

    limit: of documents per task, 0 for all. shots: answered examples, as the task has it where None. Raises
    HarnessError for an unknown task, a missing network, or a task that would run code.
    """
    with ExitStack() as until:
        until.enter_context(contain_harness(seed))
        folder = until.enter_context(tempfile.TemporaryDirectory())
        try:
            found = _from_file(Path(name), folder) if _is_file(name) else _by_name(name, until)
            for task in found["tasks"].values():
                _settle(task, shots, seed)
            digest = _digest(found["tasks"], limit, shots)
        except HarnessError:
            raise
        except Exception as error:  # the edge to the harness: any of its failures
            raise _explain(name, error) from error
        yield Tasks(found, digest)


def _is_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def _from_file(path: Path, folder: str) -> Any:
    config = _read(path, ())
    if not isinstance(config.get("task"), str):
        raise HarnessError(
            f'{path} names no single task ("task: my_task"); a group\'s tasks are named one by one'
        )
    _check(str(path), config)
    own = {"cache_dir": folder} | (config.get("dataset_kwargs") or {})
    if own.pop("trust_remote_code", False):
        raise HarnessError(f"{path} sets trust_remote_code, which is not allowed; use data without code")
    return TaskManager(include_defaults=False).load([config | {"dataset_kwargs": own}])


class _Data(yaml.SafeLoader):  # type: ignore[misc]  # untyped
    """YAML loader that rejects the harness's tag for Python functions."""


def _refuse_function(loader: yaml.SafeLoader, node: yaml.Node) -> None:
    raise HarnessError(
        f"names the Python function {str(getattr(node, 'value', ''))[:60]!r}, and a task file is read as "
        "data alone; write templates instead, or use a task that comes with the harness"
    )


_Data.add_constructor("!function", _refuse_function)


def _read(path: Path, above: tuple[Path, ...]) -> Config:
    """A task file and the files it includes, itself last."""
    try:
        check_input(path)
        config = yaml.load(path.read_bytes(), Loader=_Data)
    except OSError as error:
        raise HarnessError(
            f"{path} cannot be read: {error.strerror}; check its name and permissions"
        ) from error
    except (HarnessError, yaml.YAMLError, UnicodeDecodeError) as error:
        told = str(error) if isinstance(error, HarnessError) else f"is not YAML: {first_line(error)}"
        raise HarnessError(f"{path} {told}") from error
    if not isinstance(config, dict):
        raise HarnessError(
            f'{path} holds no task; write "task: my_task" and what the harness\'s guide asks for'
        )
    included = config.pop("include", None) or []
    merged: Config = {}
    for other in [included] if isinstance(included, str) else included:
        whole = (path.parent / str(other)).resolve()
        if whole in above or len(above) > 10:
            raise HarnessError(f"{path} includes itself through {other}; remove that line")
        merged |= _read(whole, (*above, path.resolve()))
    return merged | config


@cache
def _list_known_tasks() -> Any:
    """The tasks that come with the harness; reading some 14,000 files takes seconds."""
    return TaskManager()


def _by_name(name: str, until: ExitStack) -> Any:
    manager = _list_known_tasks()
    if name not in manager.task_index:
        near = difflib.get_close_matches(name, manager.all_tasks, 3)
        raise HarnessError(
            f"lm-evaluation-harness knows no task {name[:80]!r}"
            + (f", but {', '.join(near)}" if near else "; write the name of a .yaml file for one of your own")
        )
    for own, config in _members(manager.task_index, name):
        _check(own, config)
    until.enter_context(forbid_metric_code())
    return manager.load([name])


def _members(index: Mapping[str, Any], name: str) -> Iterator[tuple[str, Config]]:
    """The settings of every task behind a task, group or tag, without reading functions."""
    entry = index.get(name)
    if entry is None:
        return
    config = load_yaml(entry.yaml_path, resolve_func=False) if entry.yaml_path else {}
    members = config.get("task") if isinstance(config.get("task"), list) else sorted(entry.tags or ())
    if not isinstance(config.get("task"), str):
        for member in members or ():
            inner = member if isinstance(member, str) else member.get("group") or member.get("task")
            yield from _members(index, str(inner))
    else:
        yield name, config


def _check(name: str, config: Config) -> None:
    """Raise HarnessError for a task that would run model-written or third-party code."""
    if config.get("unsafe_code"):
        raise HarnessError(
            f"{name} runs code that the model writes with your rights, which is not allowed; "
            "judge such a skill by unit tests, contained: unlearn --tests"
        )
    if config.get("doc_to_image") or config.get("doc_to_audio"):
        raise HarnessError(f"{name} uses images or audio; choose a text task")
    if config.get("use_prompt"):
        raise HarnessError(f"{name} takes its prompts from promptsource; write doc_to_text instead")
    for metric in config.get("metric_list") or ():
        told = metric.get("metric") if isinstance(metric, dict) else metric
        foreign = isinstance(metric, dict) and metric.get("hf_evaluate")
        own = config.get("process_results") or str(told).startswith(_OWN) or told in metric_registry
        if foreign or not own:
            raise HarnessError(
                f"{name} needs the metric {str(told)[:60]!r}, code that would come from the Hub; the harness "
                "itself has acc, acc_norm, exact_match, f1, perplexity and others"
            )


def _settle(task: Any, shots: int | None, seed: int) -> None:
    """Set the number of shots as the harness's own command does."""
    own = task.get_config("num_fewshot")
    if shots is not None and own != 0:
        task.set_config(key="num_fewshot", value=shots)
    elif own is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=FEWSHOT_SEED + seed)


def _digest(tasks: Mapping[str, Any], limit: int, shots: int | None) -> str:
    found = hashlib.sha256()
    for name, task in sorted(tasks.items()):
        settings = plain_config(task.dump_config())
        for place in ("dataset_path", "dataset_name", "dataset_kwargs", "metadata"):
            settings.pop(place, None)
        documents = [doc for _, doc in task.doc_iterator(limit=limit or None)]
        if task.get_config("num_fewshot"):
            documents += list(task.fewshot_docs())
        if not documents:
            raise HarnessError(f"the task {name} has no documents to ask; check its data and its split")
        for part in (name, settings, *documents):
            found.update(json.dumps(part, sort_keys=True, default=handle_non_serializable).encode() + b"\0")
    return found.hexdigest()


def plain_config(config: Config) -> Config:
    """A task's settings as JSON, without the temporary location of its data."""
    kept = json.loads(json.dumps(config, default=handle_non_serializable))
    if isinstance(kept.get("dataset_kwargs"), dict):
        kept["dataset_kwargs"].pop("cache_dir", None)
    return kept  # type: ignore[no-any-return]


def _explain(name: str, error: Exception) -> HarnessError:
    told, one = set(), error.__cause__ or error.__context__
    while one is not None and type(one).__name__ not in told:
        told.add(type(one).__name__)
        one = one.__cause__ or one.__context__
    if ({type(error).__name__} | told) & _OFFLINE:
        return HarnessError(
            f"the data of {name} could not be loaded: {first_line(error)}; it needs the network once, or use "
            "a task "
            "file with data of your own (dataset_path: json)"
        )
    return HarnessError(
        f"{name} cannot be used: {type(error).__name__}: {first_line(error)}; correct it or choose another"
    )
