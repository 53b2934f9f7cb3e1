"""Who may import whom (CONTRIBUTING.md, "The house"), and what app code never does, read from the sources."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.rooms import call_name, list_imports

APP = {"app", "pages", "workbench", "analysis", "store", "headlamp"}
ASIDE = {"demo", "training", "bench", "headlamp"}
NEVER = {
    "app": {"torch", "transformers", "sqlite_utils", "store", "pages"} | ASIDE,
    "pages": {"torch", "transformers", "sqlite_utils", "store", "pages"} | ASIDE,
    "workbench": {"streamlit", "pages", "sqlite_utils"} | ASIDE,
    "analysis": {"streamlit", "sqlite_utils", "store", "workbench", "pages"} | ASIDE,
    "store": {"streamlit", "torch", "transformers", "plotly", "analysis", "workbench", "pages"} | ASIDE,
    "headlamp": {"torch", "transformers", "sqlite_utils", "pages"} | ASIDE - {"headlamp"},
    "demo": {"streamlit", "torch", "transformers", "analysis", "workbench", "store", "pages"}
    | ASIDE - {"demo"},
    "training": {"streamlit", "pages", "bench"},
    "bench": {"streamlit", "pages"} | ASIDE - {"bench"},
}
SHOWN_OF_STORE = {
    *("Job", "ReadableRows", "Run", "Store", "open_store"),
    *("delete_run", "export_runs", "forget_job", "free_space", "get_run", "list_jobs"),
    *("list_runs", "measure_storage"),
}
"""What pages take from store's door: records, lists, and what a person does to what is stored."""
READ_OF_EVIDENCE = {
    *("errors", "evidence", "headlines", "phrases"),
    *("comparison_evidence", "pruning_evidence", "unlearning_evidence", "word_evidence"),
}
"""The modules of store that pages may import: what a finding holds, read and put into words."""
PICKLES = {"pickle", "cloudpickle", "dill", "marshal", "shelve"}
PICKLING = {"read_pickle", "to_pickle"}
UNSAFE_CALLS = {"torch.load", "torch.save", "eval", "exec", "builtins.eval", "builtins.exec"}
UNSAFE_SWITCHES = {"trust_remote_code", "allow_pickle"}


def violations(root: Path) -> list[str]:
    """Every breach in the sources under root, as "file:line what"."""
    bare = [path for path in sorted(root.glob("pages/*.py")) if path.name != "__init__.py"]
    found = [f"{path.relative_to(root)}:1 lies directly in pages/" for path in bare]
    modules = [path for layer in NEVER for path in sorted(root.glob(f"{layer}/**/*.py"))]
    for path in [*root.glob("app.py"), *modules]:
        module = path.relative_to(root).with_suffix("").parts
        tree = ast.parse(path.read_text(encoding="utf-8"))
        breaches = [*_imports(tree, module, root), *(_unsafe(tree) if module[0] in APP else ())]
        found += [f"{path.relative_to(root)}:{line} {what}" for line, what in breaches]
    return found


def _imports(tree: ast.AST, module: tuple[str, ...], root: Path) -> Iterator[tuple[int, str]]:
    """(line, what) of each import the table forbids to this module's layer, and of each pickle module."""
    for line, name in list_imports(tree, module[:-1]):
        if name.split(".")[0] in NEVER[module[0]] and not _allowed(name, module, root):
            yield line, f"imports {name}"
        elif module[0] in APP and name.split(".")[0] in PICKLES:
            yield line, f"uses {name}"


def _allowed(name: str, module: tuple[str, ...], root: Path) -> bool:
    """The doors in the walls: for pages some names of store, its errors and its evidence, pages.shared and
    the parts beside them; for all the bundled models' names."""
    top, _, rest = name.partition(".")
    door = rest.split(".")[0]
    if module[0] in {"app", "pages"} and (top, door) in {
        *(("store", name) for name in {*READ_OF_EVIDENCE, *SHOWN_OF_STORE}),
        ("pages", "shared"),
    }:
        return True
    if module[0] == "pages" and len(module) > 3 and name.startswith(f"pages.{module[1]}.{module[2]}."):
        return True
    is_module = (root / top / door).is_dir() or (root / top / f"{door}.py").is_file()
    return top == "demo" and bool(door) and not is_module


def _aliases(tree: ast.AST) -> dict[str, str]:
    """What each imported name stands for: {"t": "torch", "read": "torch.load"}."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _unsafe(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what) of each unsafe call and switch."""
    names = _aliases(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            used = call_name(node, names)
            if used in UNSAFE_CALLS or used.split(".")[-1] in PICKLING:
                yield node.lineno, f"uses {used}"
        for switch, value in _switches(node):
            if switch in UNSAFE_SWITCHES and not (isinstance(value, ast.Constant) and value.value is False):
                yield value.lineno, f"uses {switch}"


def _switches(node: ast.AST) -> Iterator[tuple[object, ast.expr]]:
    """(name, value) of the keyword arguments of a call and of the entries of a written-out dictionary."""
    if isinstance(node, ast.Call):
        yield from ((word.arg, word.value) for word in node.keywords)
    elif isinstance(node, ast.Dict):
        entries = zip(node.keys, node.values, strict=True)
        yield from ((key.value, value) for key, value in entries if isinstance(key, ast.Constant))


def plant(root: Path, place: str, source: str) -> list[str]:
    """The violations of a tree that holds this source at this place, beside one module of demo/."""
    for path, text in (("demo/__init__.py", "BUNDLED = ()\n"), ("demo/cards.py", "\n"), (place, source)):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return violations(root)


def test_the_walls_stand(repo_root: Path) -> None:
    assert violations(repo_root) == []


def test_contributing_shows_the_same_table(repo_root: Path) -> None:
    shown: dict[str, set[str]] = {}
    for row in re.findall(
        r"^\| (`.*) \|$", (repo_root / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M
    ):
        layers, _, never = row.split(" | ")
        names = re.sub(r"\(.*?\)|;.*", "", never).replace("another page", "pages")
        shown |= {layer: set(re.findall(r"\w+", names)) for layer in re.findall(r"`(\w+)", layers)}
    forbidden = {layer: names - ASIDE for layer, names in NEVER.items()}
    assert shown == forbidden


@pytest.mark.parametrize(
    ("layer", "target"), [(layer, name) for layer in NEVER for name in sorted(NEVER[layer])]
)
def test_each_cell_of_the_table_is_seen(tmp_path: Path, layer: str, target: str) -> None:
    place = "app.py" if layer == "app" else f"{layer}/room/module.py"
    name = f"{target}.cards" if target == "demo" else f"{target}.explore"
    assert plant(tmp_path, place, f"def late():\n    import {name}\n") == [f"{place}:2 imports {name}"]


@pytest.mark.parametrize(
    ("place", "source", "name"),
    [
        ("pages/explore/a.py", "import json, torch.nn as nn", "torch.nn"),
        ("pages/explore/a.py", "from torch import Tensor", "torch.Tensor"),
        ("pages/explore/a.py", "from store import runs", "store.runs"),
        ("pages/explore/a.py", "from store import put_unit", "store.put_unit"),
        ("pages/explore/a.py", "from store.errors_of_mine import x", "store.errors_of_mine.x"),
        ("pages/explore/a.py", "import store", "store"),
        ("pages/explore/a.py", "from pages.intervene import clamp", "pages.intervene.clamp"),
        ("pages/explore/b/page.py", "from pages.explore.neurons import map", "pages.explore.neurons.map"),
        ("pages/shared/a.py", "from pages.record.parts import finding", "pages.record.parts.finding"),
        ("pages/explore/a.py", "from ..intervene.clamp import draw", "pages.intervene.clamp.draw"),
        ("pages/explore/a.py", "from . import neurons", "pages.explore.neurons"),
        ("pages/explore/__init__.py", "from . import neurons", "pages.explore.neurons"),
        ("pages/shared/a.py", "from pages import explore", "pages.explore"),
        ("app.py", "import pages.explore.a", "pages.explore.a"),
        ("workbench/a.py", "if TYPE_CHECKING:\n import sqlite_utils", "sqlite_utils"),
        ("workbench/a.py", "from training.train import main", "training.train.main"),
        ("workbench/a.py", "from demo import cards", "demo.cards"),
        ("analysis/a.py", "import importlib\nimportlib.import_module('store.runs')", "store.runs"),
        ("analysis/a.py", "from importlib import import_module\nimport_module(name='store')", "store"),
        ("analysis/a.py", "__import__('streamlit')", "streamlit"),
        ("analysis/deep/a.py", "from ...workbench import jobs", "workbench.jobs"),
        ("pages/explore/a.py", "importlib.import_module('..shop.clamp', __package__)", "pages.shop.clamp"),
        ("headlamp/a.py", "from pages.shared import state", "pages.shared.state"),
        ("workbench/a.py", "import headlamp", "headlamp"),
        ("store/a.py", "from plotly.graph_objects import Figure", "plotly.graph_objects.Figure"),
    ],
)  # fmt: skip
def test_an_import_is_seen_however_it_is_written(tmp_path: Path, place: str, source: str, name: str) -> None:
    assert [what.partition(" ")[2] for what in plant(tmp_path, place, source)] == [f"imports {name}"]


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import pickle", "pickle"),
        ("from pickle import loads", "pickle.loads"),
        ("import pandas as pd\npd.read_pickle('f')", "pandas.read_pickle"),
        ("numpy.load('f', allow_pickle=True)", "allow_pickle"),
        ("import torch\ntorch.load('f')", "torch.load"),
        ("import torch as t\nt.load('f')", "torch.load"),
        ("from torch import load as read\nread('f')", "torch.load"),
        ("AutoModel.from_pretrained('m', trust_remote_code=True)", "trust_remote_code"),
        ("AutoModel.from_pretrained('m', trust_remote_code=ask())", "trust_remote_code"),
        ("options = {'trust_remote_code': True}", "trust_remote_code"),
        ("eval('1')", "eval"),
        ("exec('1')", "exec"),
    ],
)
def test_an_unsafe_call_is_seen(tmp_path: Path, source: str, what: str) -> None:
    assert [line.partition(" ")[2] for line in plant(tmp_path, "analysis/a.py", source)] == [f"uses {what}"]


def test_a_script_directly_in_pages_is_seen(tmp_path: Path) -> None:
    assert plant(tmp_path, "pages/neurons.py", "") == ["pages/neurons.py:1 lies directly in pages/"]


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("pages/__init__.py", ""),
        ("pages/explore/a.py", "import streamlit\nfrom pages.shared import a\nfrom store.errors import Bad"),
        ("pages/explore/a.py", "from store import Run, list_runs\nfrom store.evidence import read_evidence"),
        ("pages/explore/neurons/page.py", "from pages.explore.neurons.map import draw"),
        ("pages/explore/neurons/b.py", "from . import lists"),
        ("pages/explore/a.py", "from ..shared.a import keys\nfrom store import errors\nimport workbench.a"),
        ("pages/explore/a.py", "from demo import BUNDLED\nimport torchmetrics, storekeeper"),
        ("workbench/a.py", "import torch, store.runs\nfrom analysis import models\nfrom . import jobs"),
        ("analysis/a.py", "import torch\nmodel.eval()\nframe.load('f')\nload(trust_remote_code=False)"),
        ("store/a.py", "import sqlite_utils\nimport_module(f'{x}')\ntext = 'import torch; eval(1)'"),
        ("demo/a.py", "from pathlib import Path\nfrom demo import cards"),
        ("training/a.py", "import torch, analysis.models\nfrom demo import BUNDLED\ntorch.load('f')"),
        ("bench/a.py", "import pickle, workbench, store"),
        ("headlamp/a.py", "import streamlit, analysis.figures, store\nfrom workbench.a import b"),
        ("tests/a.py", "import streamlit, training.train, pages.explore.a"),
    ],
)  # fmt: skip
def test_what_is_allowed_raises_no_alarm(tmp_path: Path, place: str, source: str) -> None:
    assert plant(tmp_path, place, source) == []
