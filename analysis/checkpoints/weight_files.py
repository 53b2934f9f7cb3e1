"""Which files of a folder or Hub model are its weights: those that transformers loads (METHODS §0).

`model.safetensors`; else the files that its index names; else the one other `*.safetensors`. A file that the
configuration names (`transformers_weights`) precedes all of them. Hidden files, such as macOS's
`._model.safetensors`, never count.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath

from analysis.checkpoints.stored import AGAIN
from analysis.errors import NotAModel, UnsafeWeights

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_ADAPTER = "adapter_config.json"


@dataclass(frozen=True)
class WeightFiles:
    """names: files of weights relative to the model's folder, sorted. index: the file that lists them, if
    any; assigned: key → file, as the index has it.
    """

    names: tuple[str, ...]
    index: str | None = None
    assigned: Mapping[str, str] = field(default_factory=dict)


def find_weight_files(folder: Path) -> WeightFiles:
    """The weight files of a local folder; reads at most its index and config.json.

    Raises NotAModel or UnsafeWeights where there are none, where several could be meant, and where the index
    names a file that is not there.
    """
    names = tuple(sorted(path.name for path in folder.iterdir() if path.is_file()))
    small = tuple(_stat(folder / name) for name in ("config.json", INDEX))
    found = _find_cached(folder, names, small)
    for name in found.names:
        if not (folder / name).is_file():
            named = "config.json" if found.index is None else "index"
            raise NotAModel(f"{folder}: its {named} names {name}, which is not there{AGAIN}")
    return found


def _stat(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=64)
def _find_cached(folder: Path, names: tuple[str, ...], small: object) -> WeightFiles:
    return choose_weight_files(
        str(folder), names, lambda name: read_index(folder / name), read_stated_file(folder)
    )


def read_stated_file(folder: Path) -> str | None:
    """The file of weights that config.json names as `transformers_weights`, if any."""
    try:
        stated = json.loads((folder / "config.json").read_bytes()).get("transformers_weights")
    except (OSError, ValueError, AttributeError):
        return None
    return stated if isinstance(stated, str) else None


def choose_weight_files(
    where: str,
    names: Collection[str],
    read_index: Callable[[str], Mapping[str, str]],
    stated: str | None = None,
) -> WeightFiles:
    """Choose the weight files among all files of a model.

    where: the model's name or folder, for errors. read_index: reads key → file from an index, by its name.
    stated: see `read_stated_file`. Raises NotAModel, UnsafeWeights.
    """
    if stated is not None:
        _require_inside(where, stated)
        if stated.endswith(".index.json"):
            return _from_index(where, stated, read_index)
        return WeightFiles((stated,))
    if SINGLE in names:
        return WeightFiles((SINGLE,))
    if INDEX in names:
        return _from_index(where, INDEX, read_index)
    others = sorted(name for name in names if _is_candidate(name))
    if len(others) == 1:
        return WeightFiles((others[0],))
    if others:
        listed = ", ".join(others[:4]) + (" …" if others[4:] else "")
        raise NotAModel(
            f"{where} has {len(others)} files of weights ({listed}) and no {INDEX} that says which "
            f"belong together; keep the model's own file as {SINGLE}, or fetch its index"
        )
    raise _explain_none(where, names)


def _is_candidate(name: str) -> bool:
    return name.endswith(".safetensors") and not name.startswith((".", "adapter_")) and "/" not in name


def _from_index(where: str, index: str, read_index: Callable[[str], Mapping[str, str]]) -> WeightFiles:
    assigned = dict(read_index(index))
    for name in set(assigned.values()):
        _require_inside(where, name)
    return WeightFiles(tuple(sorted(set(assigned.values()))), index, assigned)


def _require_inside(where: str, name: str) -> None:
    path = PurePosixPath(name)
    if (
        path.is_absolute()
        or ".." in path.parts
        or "\\" in name
        or not name.endswith((".safetensors", ".safetensors.index.json"))
    ):
        raise NotAModel(
            f"{where} names {name!r} as a file of its weights; only *.safetensors inside the model's folder "
            f"are read{AGAIN}"
        )


def _explain_none(where: str, names: Collection[str]) -> NotAModel | UnsafeWeights:
    """Why a model has no readable weights, with what to do."""
    shown = [name for name in sorted(names) if not name.startswith(".")]
    pickles = [name for name in shown if name.endswith(_PICKLES) and name != "training_args.bin"]
    gguf = [name for name in shown if name.endswith(".gguf")]
    onnx = [name for name in shown if name.endswith(".onnx") or name == "onnx"]
    if _ADAPTER in names:
        return NotAModel(describe_adapter(where))
    if gguf:
        return NotAModel(
            f"{where} has GGUF weights only; name one of them: "
            f"{where}{'/' if Path(where).is_dir() else ':'}{gguf[0]}"
        )
    if pickles:
        return UnsafeWeights(
            f"{where} has pickled weights only ({pickles[0]}), which can run code when read; convert them: "
            "load in a sandbox with transformers and save_pretrained(…), which writes safetensors"
        )
    if onnx:
        return NotAModel(
            f"{where} has ONNX weights only ({onnx[0]}), a graph without the layers that are read here; use "
            "the model it was exported from"
        )
    return NotAModel(f"{where} has a config.json but no *.safetensors weights")


def describe_adapter(where: str, base: str | None = None) -> str:
    """What a folder of an adapter alone is, and what to do; base: the model it names as its base."""
    of = f" for {base}" if base else ""
    return (
        f"{where} holds an adapter (LoRA){of}, not a model; open it over its base model: "
        f"{base or 'BASE'}+{where}"
    )


def read_index(path: Path) -> dict[str, str]:
    """Read key → file from the index of a sharded checkpoint. Raises NotAModel for a damaged one."""
    try:
        listed = json.loads(path.read_bytes())["weight_map"]
        found = {str(key): name for key, name in listed.items()}
        if not all(isinstance(name, str) and name for name in found.values()):
            raise TypeError("a file's name is not a text")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise NotAModel(f"{path} is not an index of weights ({error}){AGAIN}") from error
    return found
